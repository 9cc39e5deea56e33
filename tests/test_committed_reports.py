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
FOLDERS = sorted(p.parent for p in ROOT.glob("reports/*/records.jsonl") if p.parent.name != "out")
README = ROOT / "README.md"
SHOWN = re.compile(r"(<!-- (reports/[\w-]+/\w+\.md) -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)
REWRITE = os.environ.get("AIREPAIR_GOLDEN") == "write"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_committed_table_is_rendered_from_the_records_beside_it(folder: Path) -> None:
    """Byte for byte (AIREPAIR_GOLDEN=write writes them anew)."""
    records, remarks = read([folder])
    assert not remarks
    found = documents(grid(records), default_path(), folder)
    for path in sorted(folder.glob("*.md")):
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
    """The part between `<!-- reports/NAME/TABLE.md -->` and `<!-- end -->` is the file's first table with all that stands below it."""
    text = README.read_text()
    assert SHOWN.search(text)

    def shown(match: re.Match[str]) -> str:
        first = (ROOT / match[2]).read_text().split("\n\n**Table", 2)[0].strip()
        return f"{match[1]}{first}{match[4]}"

    wanted = SHOWN.sub(shown, text)
    if REWRITE:
        README.write_text(wanted)
    assert README.read_text() == wanted
