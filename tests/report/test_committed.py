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
SHOWN_TOGETHER = [REPORTS / name for name in ("digits", "cpu", "cifar")]  # tables in reports/ itself
README = ROOT / "README.md"
SHOWN = re.compile(r"(<!-- (reports/[\w/-]+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
REWRITE = os.environ.get("AIREPAIR_GOLDEN") == "write"


@pytest.mark.parametrize(
    ("folder", "sources"),
    [*((f, [f]) for f in FOLDERS), (REPORTS, SHOWN_TOGETHER)],
    ids=lambda v: v.name if isinstance(v, Path) else "",
)
def test_a_committed_table_is_rendered_from_the_committed_records(folder: Path, sources: list[Path]) -> None:
    """Byte for byte (AIREPAIR_GOLDEN=write writes them anew)."""
    records, remarks = read(sources)
    assert not remarks
    found = documents(grid(records), default_path())
    for path in sorted(folder.glob("*.md")):
        if path.stem != "verdict":
            same(path, render(found[path.stem], "md"))


def same(path: Path, text: str) -> None:
    """The file is that text; or becomes it."""
    if REWRITE:
        path.write_text(text)
    assert path.read_text() == text


def test_the_verdict_and_the_picture_are_made_from_the_committed_records() -> None:
    """As `airepair table` of these folders prints them with `--table verdict` and `--table picture`."""
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


def claimed(section: str) -> dict[tuple[str, str, str], float]:
    """(Column, method, compared with) -> points of the accuracy claims of a section of the findings."""
    text = (ROOT / "docs" / "findings.md").read_text()
    part = text.partition(f"## {section}")[2].partition("\n## ")[0].partition("\nConstraint accuracy: ")[0]
    rows = [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("| ") and "<br>" not in line and ":--" not in line
    ]
    return {(row[0].lower().replace(" ", "-"), row[1], row[2]): float(row[3]) for row in rows}


def test_the_verdict_says_nothing_that_the_findings_do_not_claim() -> None:
    """The verdict is of the portable records alone; each difference that it calls one, and each idea
    that helps, holds in native arithmetic too.
    """
    text = (REPORTS / "verdict.md").read_text().replace("\\", "")
    pairs = claimed("Beyond fine-tuning?")
    said = re.findall(r"(Better|Worse|better)( than[^:]*)?: ((?:[\w\[\]]+ \([^)]*\)(?:, )?)+)", text)
    assert len(said) >= 2
    for word, than, names in said:
        for method, places in re.findall(r"([\w\[\]]+) \(([^)]*)\)", names):
            for place in places.split(", "):
                found = [
                    points
                    for (column, name, against), points in pairs.items()
                    if (column, name) == (place, method) and ("random" in than) == ("random" in against)
                ]
                assert found, (word, than, method, place)
                assert all((points < 0) == (word == "Worse") for points in found), (method, place)
    ideas = re.search(r"improves the repair significantly for (\d+) of \d+ methods(?:: ([^\n]*))?\.", text)
    assert ideas
    better = {method for (_, method, _), points in claimed("Is it the idea?").items() if points > 0}
    names = ideas[2].split(", ") if ideas[2] else []
    assert len(names) == int(ideas[1])
    assert set(names) <= better
