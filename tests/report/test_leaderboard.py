"""The HTML leaderboard: self-contained, escaped, well formed, accessible; the curves' geometry."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from airepair.report import documents, write_all
from airepair.report.cells import grid
from airepair.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve
from airepair.report.leaderboard import HEADINGS, LABELS, leaderboard
from airepair.report.table import Entry, Heading, Row, Table
from tests.report_records import ODD, example, phases, record

VOID = {"meta", "input"}
PLACE = ("digits", "cnn")


class Page(HTMLParser):
    """Collects tags and text, and every tag that is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[int] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def page() -> str:
    """The page of the example."""
    cells = grid(example())
    return leaderboard(cells, [t for tables in documents(cells, None).values() for t in tables])


def test_the_page_is_well_formed_and_ids_are_unique(page: str) -> None:
    """Every tag is closed in order; every link within the page finds its target."""
    parsed = Page(page)
    assert (parsed.wrong, parsed.open) == ([], [])
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for t, a in parsed.tags if t == "a"} <= {f"#{i}" for i in ids}


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    """No link, image, font or script of another place: the file can be mailed."""
    assert not [
        t
        for t, a in Page(page).tags
        if "src" in a or t in ("link", "img", "iframe") or str(a.get("href", "#"))[0] != "#"
    ]
    assert not re.search(r"url\(|@import|https?://", page)


def test_reasons_are_escaped(page: str) -> None:
    """Markup in a reason is shown, not run."""
    assert '<b>"x"</b>' in ODD
    assert "&lt;b&gt;" in page
    assert '<b>"x"' not in page
    assert "\x1b" not in page


def test_every_cell_has_a_row_and_its_details(page: str) -> None:
    """Cells that did not run too, with their status and reason."""
    tags = Page(page).tags
    targets = {a["id"] for t, a in tags if t == "details" and "id" in a}
    assert {"digits-cnn-deeprepair", "digits-fc-finetune", "mnist-cnn-dl2"} <= targets
    assert sum(t == "a" for t, _ in tags) == len(targets) == 11
    assert "8 GiB wanted" in page


def test_tables_are_accessible(page: str) -> None:
    """Headings have a scope, tables a caption, and curves a description."""
    parsed = Page(page)
    assert all("scope" in a for t, a in parsed.tags if t == "th")
    assert sum(t == "table" for t, _ in parsed.tags) == sum(t == "caption" for t, _ in parsed.tags)
    assert all(a.get("aria-label") for t, a in parsed.tags if t == "svg")
    assert [a["class"] for t, a in parsed.tags if t == "svg"] == ["pic key", *["pic"] * 3, *["curve"] * 2]


def test_the_claim_lines_are_there(page: str) -> None:
    """n, device, commit; and the flag of a gain that a temperature alone gives."""
    assert page.count("Claim: n = ") >= 2
    assert "+10.00 ± 0.00‡" in page


def test_headings_and_values_agree(page: str) -> None:
    """Each row of the sortable table has one cell a heading."""
    board = page[page.index('<table id="board">') : page.index("</table>", page.index('<table id="board">'))]
    rows = re.findall(r"<tr>.*?</tr>", board, re.S)
    assert {len(re.findall(r"<t[hd]\b", row)) for row in rows} == {len(LABELS) + len(HEADINGS)}


def test_what_a_repair_used_is_drawn_among_its_details(tmp_path: Path) -> None:
    """From the samples in the folder of the run; a cell without samples has no drawing."""
    records = example()
    key = next(r.key for r in records if r.status == "repaired")
    place = tmp_path / "cells" / key / "cost.jsonl"
    place.parent.mkdir(parents=True)
    rows = [{"seconds": t, "resident_bytes": 2**30 * t, "cpu_seconds": t} for t in (1, 2, 3)]
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = leaderboard(grid(records), (), runs=[tmp_path])
    assert drawn.count('<svg class="usage"') == 2
    assert "Memory, at most 3.00 GiB" in drawn
    assert (Page(drawn).wrong, Page(drawn).open) == ([], [])
    assert '<svg class="usage"' not in leaderboard(grid(records), ())


def test_an_empty_run_gives_a_page_that_says_so(tmp_path: Path) -> None:
    """No record: the page is there and says that nothing ran."""
    write_all([], tmp_path)
    text = (tmp_path / "leaderboard.html").read_text()
    assert "Nothing ran" in text
    assert Page(text).wrong == []


def test_of_a_long_table_the_page_shows_what_can_be_told() -> None:
    """Whole groups of rows with something in bold; how many others there are, and where."""
    rows = [Row(("digits", "" if i % 2 else f"m{i}", ""), (Entry("1", best=i == 101),)) for i in range(200)]
    table = Table(
        "table3", "Table III: x", ("Subject", "Method", "Metric"), (Heading("", "gain"),), tuple(rows)
    )
    text = leaderboard(grid([]), [table])
    assert "m100" in text
    assert "m102" not in text
    assert "198 rows without anything in bold: table3.*." in text
    whole = leaderboard(grid([]), [dataclasses.replace(table, rows=table.rows[:20])])
    assert all(f"m{i}" in whole for i in range(0, 20, 2))


def test_a_curve_stays_within_its_frame() -> None:
    """Points go from the subject at 0 images to the returned state; more accuracy is higher up; all
    lie inside.
    """
    cells = grid(
        [
            record(
                "digits-cnn-finetune-s0",
                gains={"accuracy": 0.05},
                phases=phases((5_000, 20_000, 40_000), 0.01),
            )
        ]
    )
    drawn = curve(cells, PLACE, "finetune")
    assert drawn is not None
    points = drawn.lines[0].points
    assert len(points) == 5
    assert points[0].x == LEFT
    assert all(a.x < b.x and a.y > b.y for a, b in pairwise(points))
    assert all(LEFT <= p.x <= WIDTH - RIGHT and TOP <= p.y <= HEIGHT - BOTTOM for p in points)


def test_a_flat_curve_and_one_without_states() -> None:
    """States of equal accuracy divide by nothing; without states there is no curve."""
    flat = curve(grid([record("digits-cnn-finetune-s0", phases=phases((5_000,), 0.0))]), PLACE, "finetune")
    assert flat is not None
    assert len({p.y for p in flat.lines[0].points}) == 1
    assert curve(grid([record("digits-cnn-noop-s0")]), PLACE, "noop") is None
