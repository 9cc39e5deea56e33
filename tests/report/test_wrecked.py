"""A repair that leaves less than half of the accuracy is marked wherever it is shown, and is
recommended nowhere.
"""

from pathlib import Path

import pytest

from airepair.cli.repair.folder import RunFolder
from airepair.cli.repair.run import result_line
from airepair.records import Record
from airepair.report import documents, render
from airepair.report.before_after import before_after
from airepair.report.cells import grid
from airepair.report.costs import costs
from airepair.report.facts import WRECK, WRECKED, wrecked
from airepair.report.leaderboard import leaderboard
from airepair.report.paper import default_path, read
from airepair.report.recommend import recommendations
from airepair.report.table import Table
from airepair.report.table1 import table1
from tests.report_records import record

WORSE = {"accuracy": -0.5, "constraint": 0.3}


def records(gains: dict[str, float] = WORSE) -> list[Record]:
    """finetune, which gains a little, and dl2, which wrecks one of two seeds and gains constraint
    accuracy by it.
    """
    validation = {"validation_accuracy": 0.8, "repaired_validation_accuracy": 0.9}
    fine = [record(f"digits-cnn-finetune-s{s}", gains={"accuracy": 0.02, "constraint": 0.01}) for s in (0, 1)]
    wreck = [
        record(f"digits-cnn-dl2-s{s}", gains=g, subject=validation)
        for s, g in ((0, gains), (1, {"accuracy": 0.01, "constraint": 0.2}))
    ]
    return fine + wreck


def of_method(table: Table, method: str) -> list[str]:
    """The rows of a method, each as one text."""
    return [
        " ".join((*r.labels, *(e.text for e in r.entries)))
        for r in table.rows
        if any(method in label for label in r.labels)
    ]


@pytest.mark.parametrize(("after", "expected"), [(0.40, True), (0.41, False)])
def test_less_than_half_is_wrecked(after: float, expected: bool) -> None:
    """Half of .81 is .405; a cell that did not run is not."""
    assert wrecked([record("digits-cnn-dl2-s0", gains={"accuracy": after - 0.81})]) is expected
    assert not wrecked([record("digits-cnn-dl2-s0", "failed")])


@pytest.mark.parametrize("name", ["table1", "extended-digits-cnn", "cost", "before_after"])
def test_every_table_marks_it_and_says_what_the_mark_means(name: str) -> None:
    """The rows of the method, and a note; nothing where nothing was wrecked."""

    def made(found: list[Record]) -> Table:
        cells = grid(found)
        others = {"before_after": before_after, "cost": costs}
        tables = (
            {t.name: t for part in documents(cells, default_path()).values() for t in part}
            if name not in others
            else {}
        )
        return tables[name] if name in tables else others[name](cells)

    table = made(records())
    assert all(WRECK in row for row in of_method(table, "DL2") if not row.strip().startswith("·"))
    assert not any(WRECK in row for row in of_method(table, "finetune"))
    assert WRECKED in table.notes
    sound = made(records({"accuracy": 0.01, "constraint": 0.3}))
    assert WRECK not in render([sound], "txt")


def test_its_constraint_is_not_the_best() -> None:
    """A wrecked model that is sure of nothing but its groups wins no column."""
    best = [e for r in table1(grid(records()), read(default_path())).rows for e in r.entries if e.best]
    assert not any(WRECK in e.text for e in best)


def test_the_page_marks_it_too() -> None:
    """In the sortable table its method and status, and the legend below."""
    page = leaderboard(grid(records()), ())
    assert f"DL2 {WRECK}" in page
    assert "repaired, wrecked the model" in page
    assert WRECKED in page
    assert WRECK not in leaderboard(grid(records({"accuracy": 0.01})), ())


def test_terminal_and_report_md_say_it(tmp_path: Path) -> None:
    """In the line of the cell, and in the report of a run; the advice names another method."""
    found = records()
    assert "; the repair wrecked the model: less than half of its accuracy is left" in result_line(found[2])
    assert "wrecked" not in result_line(found[3])
    RunFolder(tmp_path).write_report(found)
    text = (tmp_path / "report.md").read_text()
    assert f"DL2 {WRECK}" in text
    assert WRECKED in text
    assert "no repair method has a result here" in recommendations(grid(found))[0]


def test_latex_can_print_it() -> None:
    """As a symbol of its own."""
    assert r"$\otimes$" in render([before_after(grid(records()))], "tex")
