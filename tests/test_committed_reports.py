"""The tables in the repository are what its records say: no number in them was typed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from airepair.records import read
from airepair.report import documents, render
from airepair.report.grid import grid
from airepair.report.paper import default_path

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
FOLDERS = sorted(p.parent for p in REPORTS.rglob("records.jsonl") if p.relative_to(REPORTS).parts[0] != "out")
SHOWN_TOGETHER = [REPORTS / "cpu", REPORTS / "digits"]  # their tables lie in reports/ itself
README = ROOT / "README.md"
SHOWN = re.compile(r"(<!-- (reports/[\w/-]+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
REWRITE = os.environ.get("AIREPAIR_GOLDEN") == "write"


@pytest.mark.parametrize(
    ("folder", "sources"), [*((f, [f]) for f in FOLDERS), (REPORTS, SHOWN_TOGETHER)], ids=lambda v: v.name if isinstance(v, Path) else ""
)
def test_a_committed_table_is_rendered_from_the_committed_records(folder: Path, sources: list[Path]) -> None:
    """Byte for byte (AIREPAIR_GOLDEN=write writes them anew). Paired tests need each cell's predictions, which are not committed."""
    records, remarks = read(sources)
    assert not remarks
    found = documents(grid(records), default_path())
    for path in sorted(folder.glob("*.md")):
        if path.stem == "paired":
            continue
        text = render(found[path.stem], "md")
        if REWRITE:
            path.write_text(text)
        assert path.read_text() == text


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_committed_records_come_from_a_clean_checkout(folder: Path) -> None:
    """Every record names its commit, and no uncommitted change took part."""
    for record in read([folder])[0]:
        assert record.provenance["commit"], record.key
        assert record.provenance["dirty"] is False, record.key


def test_the_readme_shows_the_committed_tables() -> None:
    """The part between `<!-- reports/TABLE.md -->` and `<!-- end -->` is the file's first table with all that stands below it."""
    text = README.read_text()
    assert SHOWN.search(text)

    def shown(match: re.Match[str]) -> str:
        first = (ROOT / match[2]).read_text().split("\n\n**Table", 2)[0].strip()
        return f"{match[1]}{first}\n{match[4]}"

    wanted = SHOWN.sub(shown, text)
    if REWRITE:
        README.write_text(wanted)
    assert README.read_text() == wanted
