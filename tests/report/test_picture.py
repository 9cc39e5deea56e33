"""The picture: what is on the front, where points and names stand, and what a file of it holds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from typing import Any

import pytest

from airepair.records import Record
from airepair.report.cells import grid
from airepair.report.picture import notes, on_front, panels, picture, points, shown
from airepair.report.picture_labels import LETTER, SIZE, Box, Wanted, place_labels
from airepair.report.picture_panel import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from tests.report_records import example, phases, record

PLACE = ("digits", "cnn")


def changed(method: str, change: float, images: int, seeds: int = 3, **fields: Any) -> list[Record]:
    """A method's cells with that gain of accuracy and those training images."""
    budget = {"backward": images, "forward": 0}
    return [
        record(f"digits-cnn-{method}-s{s}", gains={"accuracy": change + s / 1000}, budget=budget, **fields)
        for s in range(seeds)
    ]


@pytest.mark.parametrize(
    ("own", "rivals", "on"),
    [
        ((10.0, 1.0), [(10.0, 1.0)], True),
        ((10.0, 1.0), [(5.0, 1.0)], False),
        ((10.0, 1.0), [(10.0, 1.1)], False),
        ((10.0, 1.0), [(11.0, 9.0), (9.0, 0.9)], True),
    ],
)
def test_a_point_is_on_the_front_if_nothing_gives_as_much_for_less(
    own: tuple[float, float], rivals: list[tuple[float, float]], on: bool
) -> None:
    """At least as good in both and better in one beats it; an equal point does not."""
    assert on_front(own, rivals) is on


def test_a_state_that_finetune_kept_beats_a_method() -> None:
    """As many images of plain training gave more: the method is not on the front, though finetune's
    last state is far to the right.
    """
    kept = phases((1_000, 2_000), 0.03)
    records = changed("finetune", 0.07, 50_000, phases=kept) + changed("apricot", 0.02, 1_500)
    found, track = points(grid(records), PLACE)
    assert {p.method: p.front for p in found} == {"finetune": True, "apricot": False}
    assert [images for images, _ in track] == [1_000, 2_000, 50_000]
    assert [round(change, 3) for _, change in track] == [3, 6, 7.1]


def test_a_point_that_lacks_seeds_is_neither_on_the_front_nor_a_rival() -> None:
    """A method that was left with its luckiest seed, and finetune's states likewise; its name has its n."""
    lucky = [r for r in changed("memit", 0.06, 0) if r.case.seed == 2]
    records = changed("minimal", 0.05, 0) + changed("apricot", 0.055, 900) + lucky
    whole = changed("finetune", 0.09, 50_000, phases=phases((800, 2_000), 0.03))
    assert {p.method for p in points(grid(records), PLACE)[0] if p.front} == {"minimal", "apricot"}
    found, track = points(grid(records + whole[:1]), PLACE)
    assert {p.method for p in found if p.front} == {"minimal", "apricot"}
    assert len(track) == 3
    assert {p.title for p in found if p.n == 1} == {"memit (n=1)", "finetune (n=1)"}
    (some,), (every,) = panels(grid(records + whole[:1])), panels(grid(records + whole))
    assert every.front.count("V") > some.front.count("V")


def test_a_wrecked_model_is_on_no_front() -> None:
    """It is marked instead."""
    found, _ = points(grid(changed("noop", 0.0, 0) + changed("minimal", -0.6, 10)), PLACE)
    assert [(p.title, p.front) for p in found] == [("noop", True), ("minimal ✗", False)]


def test_the_interval_is_that_of_the_paired_tests() -> None:
    """Around the mean; one seed without its images has none."""
    (point,) = points(grid(changed("dl2", 0.05, 100)), PLACE)[0]
    assert point.change == pytest.approx(5.1)
    assert (point.low, point.high) == pytest.approx((5.0, 5.2))
    (alone,) = points(grid(changed("dl2", 0.05, 100, seeds=1)), PLACE)[0]
    assert (alone.low, alone.high) == (None, None)


def test_points_stand_in_their_frame_and_more_is_higher() -> None:
    """What trains on nothing stands in the strip, by name; what lies far below zero at the lower
    edge, with its number.
    """
    records = (
        changed("noop", 0.0, 0)
        + changed("dl2", 0.05, 9_000)
        + changed("apricot", 0.03, 900)
        + changed("prdnn", -0.3, 0)
    )
    (panel,) = panels(grid(records))
    marks = dict(zip(("noop", "apricot", "dl2", "prdnn"), panel.marks, strict=True))
    assert (
        marks["dl2"].y
        < marks["apricot"].y
        < marks["noop"].y
        < marks["prdnn"].y
        == pytest.approx(HEIGHT - BOTTOM)
    )
    assert (
        LEFT
        < marks["noop"].x
        < marks["prdnn"].x
        < panel.strip
        < marks["apricot"].x
        < marks["dl2"].x
        < WIDTH - RIGHT
    )
    assert [text for _, text in panel.slots] == ["noop", "prdnn -29.9"]
    assert marks["prdnn"].below
    assert {label.text for label in panel.labels} == {"Apricot", "DL2"}
    assert all(TOP <= m.y <= HEIGHT - BOTTOM for m in panel.marks)


def test_names_lie_on_no_other_name_and_within_the_frame() -> None:
    """Forty points in a heap: the names that find room do not overlap, and the important one is
    among them.
    """
    frame = Box(0, 0, 300, 200)
    heap = [(150 + 7 * (i % 7), 100 + 5 * (i // 7)) for i in range(40)]
    placed = list(
        place_labels([Wanted(x, y, f"name{i}", i == 39) for i, (x, y) in enumerate(heap)], heap, [], frame)
    )
    assert "name39" in {label.text for label in placed}
    assert len(placed) > 10
    boxes = []
    for label in placed:
        width = LETTER * len(label.text)
        left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
        boxes.append(Box(left + 0.1, label.y - SIZE + 4, left + width - 0.1, label.y + 3))
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))


def test_the_file_is_an_svg_that_asks_for_nothing() -> None:
    """Well formed, with a panel per subject, a description, and no link."""
    text = picture(grid(example()).plain)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(re.findall(r'class="title"', text)) == len(shown(grid(example()))) == 3
    assert not re.search(r"href|url\(|@import|<script", text)
    assert "Benchmark version 2" in text


def test_an_empty_picture_says_so() -> None:
    """And so does one of cells that all failed."""
    assert "Nothing ran." in picture(grid([]))
    assert "Nothing ran." in picture(grid([record("digits-cnn-dl2-s0", "crashed", reason="x")]))


def test_the_subjects_with_the_most_seeds_are_shown() -> None:
    """At most four, in the order of the tables; the note counts the others."""
    records = [record(f"digits-{m}-noop-s{s}") for i, m in enumerate("abcdef") for s in range(1 + i)]
    assert [p[1] for p in shown(grid(records))] == ["c", "d", "e", "f"]
    assert list(notes(grid(records)))[-1] == "The subjects with the most seeds; 2 more: Table I."
