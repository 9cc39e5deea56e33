"""The extended and the cost table: controls beside methods, phases, the temperature flag, settings,
golden files.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from airepair.records import SAME_NORM, Phase
from airepair.report import render
from airepair.report.cells import grid
from airepair.report.costs import costs
from airepair.report.extended import extended
from airepair.report.facts import FLAG, settings, temperature_alone
from airepair.report.states import largest_within, states
from airepair.report.table import Table
from tests.report_records import BEFORE, example, phases, record

GOLDEN = Path(__file__).parents[1] / "golden"
PLACE = ("digits", "cnn")


def digits() -> Table:
    """The example's table of digits-cnn."""
    return next(t for t in extended(grid(example())) if t.name == "extended-digits-cnn")


@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
@pytest.mark.parametrize("name", ["extended", "cost"])
def test_golden(name: str, form: str) -> None:
    """Both documents of the example are byte for byte the golden files (AIREPAIR_GOLDEN=write
    writes them anew).
    """
    cells = grid(example())
    text = render(extended(cells) if name == "extended" else [costs(cells)], form)
    path = GOLDEN / f"{name}.{form}"
    if os.environ.get("AIREPAIR_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_control_is_the_last_state_within_the_methods_images() -> None:
    """Of states at 5, 20, 40 and 60 thousand images: 39,999 finds 20,000; 40,000 finds 40,000;
    4,999 finds none.
    """
    control = record("digits-cnn-finetune-s0", phases=phases((5_000, 20_000, 40_000), 0.01))
    found = [largest_within(control, n) for n in (4_999, 5_000, 39_999, 40_000, 60_000, 10**9)]
    assert [state and state.images for state in found] == [None, 5_000, 20_000, 40_000, 60_000, 60_000]


def test_the_control_is_matched_seed_by_seed() -> None:
    """Seeds with different budgets get different states, and one without a finetune of its seed none."""
    records = [
        record(f"digits-cnn-finetune-s{s}", phases=phases((5_000, 20_000, 40_000), 0.01)) for s in (0, 1)
    ]
    records += [
        record(f"digits-cnn-dl2-s{s}", budget={"backward": n})
        for s, n in ((0, 6_000), (1, 41_000), (2, 41_000))
    ]
    beside = next(s for s in states(grid(records), PLACE, "dl2") if s.kind == "beside")
    assert {seed: images for seed, (images, _) in beside.seeds.items()} == {0: 5_000, 1: 40_000}
    assert beside.label == "finetune, 1/2 of the budget / 1/8 of the budget"


def test_random_stands_beside_direct_weight_modification_only() -> None:
    """Apricot has random beside it, DL2 has not."""
    cells = grid(example())
    assert "random" in [s.label for s in states(cells, PLACE, "apricot")]
    assert "random" not in [s.label for s in states(cells, PLACE, "dl2")]


def test_a_random_change_of_the_same_norm_stands_in_the_place_of_random() -> None:
    """Where the record holds it, it is a control beside the method, no state on its way, and the
    `random` cell is not shown there.
    """
    control = Phase(SAME_NORM, 0, 0.0, BEFORE | {"accuracy": 0.7})
    records = [
        record("digits-cnn-random-s0"),
        record("digits-cnn-apricot-s0", phases=(*phases((5_000,), 0.01), control)),
    ]
    found = states(grid(records), PLACE, "apricot")
    assert [s.kind for s in found if s.label == SAME_NORM] == ["beside"]
    assert found[-1].seeds == {0: (0, control.scores)}
    assert "random" not in [s.label for s in found]


def test_a_tuned_method_stands_beside_the_tuned_control() -> None:
    """`dl2[tuned]` finds `finetune[tuned]`, not the default one."""
    records = [
        record("digits-cnn-dl2[tuned]-s0"),
        record("digits-cnn-finetune-s0"),
        record("digits-cnn-finetune[tuned]-s0", gains={"accuracy": 0.1}),
    ]
    beside = next(s for s in states(grid(records), PLACE, "dl2[tuned]") if s.kind == "beside")
    assert beside.seeds[0][1]["accuracy"] == pytest.approx(0.91)


def test_phases_show_what_the_methods_own_idea_gave() -> None:
    """The state after the adjustment stands below Apricot with its own images and scores."""
    row = next(r for r in digits().rows if "adjustment" in r.labels[1])
    assert row.entries[0].text == "81.20 ± 0.00"
    assert row.entries[-1].text == "25,000"


def test_a_gain_that_a_temperature_gives_is_flagged() -> None:
    """Constraint up and tempered not: flagged; both up: not; constraint down: not."""
    up, both = (
        {"constraint": 0.1, "constraint_tempered": -0.01},
        {"constraint": 0.1, "constraint_tempered": 0.01},
    )
    assert temperature_alone([record("digits-cnn-dl2-s0", gains=up)])
    assert not temperature_alone([record("digits-cnn-dl2-s0", gains=both)])
    assert not temperature_alone([record("digits-cnn-dl2-s0", gains={"constraint": -0.1})])
    assert not temperature_alone([record("digits-cnn-dl2-s0", "crashed")])
    assert sum(FLAG in e.text for r in digits().rows for e in r.entries) == 1


def test_rows_stand_by_category() -> None:
    """Controls, retraining, direct modification, extension; an unsupported method keeps its row."""
    labels = list(dict.fromkeys(r.labels[0] for r in digits().rows))
    assert labels == [
        "subject",
        "control",
        "retraining",
        "direct weight modification",
        "architecture extension",
    ]
    assert next(r for r in digits().rows if r.labels[1] == "DeepRepair").entries[0].text == "unsupported"


def test_settings_name_where_the_options_come_from() -> None:
    """Default, given and tuned are told apart, and the note lists what was set."""

    def with_origin(origin: str):
        return record(
            "digits-cnn-dl2-s0",
            options={"lr": {"value": 0.1, "given": origin != "default", "origin": origin}},
        )

    assert [settings([with_origin(o)]) for o in ("default", "given", "tuned: commit 0123", "protocol")] == [
        "default",
        "given",
        "tuned",
        "settings table",
    ]
    assert any("lr=0.1 (given)" in n for n in extended(grid([with_origin("given")]))[0].notes)


def test_a_metric_of_another_package_has_a_column() -> None:
    """An unknown metric is shown under its own name after the known ones."""
    extra = dataclasses.replace(
        record("digits-cnn-noop-s0"),
        before=BEFORE | {"calibration": 0.2},
        after=BEFORE | {"calibration": 0.1},
    )
    assert extended(grid([extra]))[0].headings[-2].title == "calibration"


def test_cost_says_what_it_measures() -> None:
    """Mean over seeds, the source of the memory figure, and status words for cells that did not run."""
    table = costs(grid(example()))
    row = next(r for r in table.rows if r.labels == ("digits CNN", "finetune"))
    assert [e.text for e in row.entries] == ["12.50 ± 0.00", "50.0 ± 0.0", "60000 ± 0", "1000 ± 0"]
    assert "VmHWM" in table.notes[0]
    assert (
        next(r for r in table.rows if r.labels == ("digits CNN", "DeepRepair")).entries[0].text
        == "unsupported"
    )


def test_a_phase_that_one_seed_lacks_shows_its_n() -> None:
    """Two seeds, one phase: the phase's numbers carry n=1."""
    records = [
        record(f"digits-cnn-apricot-s{s}", phases=(Phase("adjustment", 1, 0.1, BEFORE),) * (s == 0))
        for s in (0, 1)
    ]
    row = next(r for r in extended(grid(records))[0].rows if "adjustment" in r.labels[1])
    assert row.entries[0].text == "81.00 (n=1)"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_method_that_lacks_a_seed_has_not_the_best_value(seeds: int) -> None:
    """DL2 is better, at the seeds that it has."""
    records = [
        record(f"digits-cnn-{m}-s{s}", gains={"accuracy": g})
        for m, g, n in (("finetune", 0.05, 2), ("dl2", 0.09, seeds))
        for s in range(n)
    ]
    (table,) = extended(grid(records))
    best = [r.labels[1] for r in table.rows if r.entries[0].best]
    assert best == (["DL2"] if seeds == 2 else ["finetune"])
