"""The tables in the repository are what its records say: no number in them was typed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from airepair.records import read
from airepair.report import documents, render
from airepair.report.cells import grid
from airepair.report.paper import default_path
from airepair.report.paper import read as read_paper
from airepair.report.picture import picture
from airepair.report.summary import summary

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
FOLDERS = sorted(p.parent for p in REPORTS.rglob("records.jsonl") if p.relative_to(REPORTS).parts[0] != "out")
SHOWN_TOGETHER = [REPORTS / "digits"]  # their tables lie in reports/ itself
README = ROOT / "README.md"
SHOWN = re.compile(r"(<!-- (reports/[\w/-]+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
REWRITE = os.environ.get("AIREPAIR_GOLDEN") == "write"


@pytest.mark.parametrize(
    ("folder", "sources"),
    [*((f, [f]) for f in FOLDERS), (REPORTS, SHOWN_TOGETHER)],
    ids=lambda v: v.name if isinstance(v, Path) else "",
)
def test_a_committed_table_is_rendered_from_the_committed_records(folder: Path, sources: list[Path]) -> None:
    """Byte for byte (AIREPAIR_GOLDEN=write writes them anew).

    Paired tests need each cell's predictions, which are not committed.
    """
    records, remarks = read(sources)
    assert not remarks
    found = documents(grid(records), default_path())
    for path in sorted(folder.glob("*.md")):
        if path.stem not in ("paired", "verdict"):
            same(path, render(found[path.stem], "md"))


def same(path: Path, text: str) -> None:
    """The file is that text; or becomes it."""
    if REWRITE:
        path.write_text(text)
    assert path.read_text() == text


def test_the_verdict_and_the_picture_are_made_from_the_committed_records() -> None:
    """As `airepair table reports/digits --table verdict` and `--table picture` print them."""
    cells = grid(read(SHOWN_TOGETHER)[0])
    same(REPORTS / "verdict.md", summary(cells, read_paper(default_path())))
    same(REPORTS / "picture.svg", picture(cells.plain))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_committed_records_come_from_a_clean_checkout(folder: Path) -> None:
    """Every record names its commit, and no uncommitted change took part."""
    for record in read([folder])[0]:
        assert record.provenance["commit"], record.key
        assert record.provenance["dirty"] is False, record.key


def test_the_readme_shows_the_verdict() -> None:
    """The part between `<!-- reports/verdict.md -->` and `<!-- end -->` is the file; the picture
    stands below it.
    """
    text = README.read_text()
    (path,) = (m[2] for m in SHOWN.finditer(text))
    same(README, SHOWN.sub(lambda m: f"{m[1]}{(ROOT / path).read_text()}{m[4]}", text))
    assert "](reports/picture.svg)" in text
