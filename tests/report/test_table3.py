"""Table III: a method minus itself with its idea off, and minus fine-tuning on the same sources at
as many images.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airepair.records import SAME_NORM, Phase, Record
from airepair.report import documents, render, terminal, write_all
from airepair.report.cells import ablation, grid
from airepair.report.table3 import by_control, questions, table3
from tests.report_records import BEFORE, answered, phases, record

N = 400  # test images


def cells(method: str, right: float, seeds: int = 10, **fields: Any) -> list[Record]:
    """A method's records: about that share of the test images right, the same hard ones; each seed
    tests other images of 1,000.
    """
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        index = np.sort(generator.permutation(1_000)[:N])
        hard = generator.permutation(N) / N
        noise = np.random.default_rng([seed, len(method)]).normal(0, 0.01, N)
        found.append(
            answered(record(f"digits-fc-{method}-s{seed}", **fields), index, hard < 0.7, hard + noise < right)
        )
    return found


def example() -> list[Record]:
    """A method whose idea helps, one whose idea does not (two ablations), and one that trains nothing."""
    finetune = cells(
        "finetune",
        0.80,
        category="control",
        phases=phases((10_000, 30_000), 0.01),
        budget={"backward": 90_000},
    )
    trained: dict[str, Any] = {"budget": {"backward": 50_000}}
    untrained: dict[str, Any] = {
        "budget": {"backward": 0},
        "phases": (Phase(SAME_NORM, 0, 0.0, BEFORE | {"accuracy": 0.7}),),
    }
    return [
        *finetune,
        *cells("dl2", 0.90, **trained),
        *cells("dl2[weight_0]", 0.80, **trained),
        *cells("apricot", 0.80, **trained),
        *cells("apricot[random_sets]", 0.80, **trained),
        *cells("apricot[swapped_sets]", 0.81, **trained),
        *cells("memit", 0.75, category="direct weight modification", **untrained),
        *cells("memit[no_ordinary_keys]", 0.60, category="direct weight modification", **untrained),
    ]


def asked(records: list[Record]) -> dict[tuple[str, str, str], Any]:
    """Method, metric and what it is compared with -> the question."""
    return {(q.method, q.metric, q.against): q for q in questions(grid(records))}


def test_an_idea_that_helps_is_told_from_its_absence() -> None:
    """Ten points on ten seeds are told, none are not; the p is corrected for all accuracy
    comparisons of the table.
    """
    found = asked(example())
    helped = found["dl2", "accuracy", "weight_0"]
    assert helped.found.difference == pytest.approx(0.10, abs=0.02)
    assert helped.sign == 1
    assert found["apricot", "accuracy", "random_sets"].sign == 0
    assert found["memit", "accuracy", "no_ordinary_keys"].sign == 1
    family = [q for q in found.values() if q.metric == "accuracy"]
    assert len(family) == 7
    smallest = min(q.found.p for q in family)
    assert min(q.p for q in family) == pytest.approx(7 * smallest)


def test_the_control_has_no_more_images_than_the_method_and_is_random_where_nothing_is_trained() -> None:
    """50,000 images: the state at 30,000; none: the random change of the same norm, both kept states."""
    found = asked(example())
    assert ("dl2", "accuracy", "finetune, 1/2 of the budget") in found
    assert found["dl2", "accuracy", "finetune, 1/2 of the budget"].found.difference == pytest.approx(
        0.90 - 0.83, abs=0.02
    )
    assert ("memit", "accuracy", SAME_NORM) in found
    assert found["memit", "accuracy", SAME_NORM].found.difference == pytest.approx(0.05, abs=0.02)


def test_without_fine_tuning_on_its_sources_a_method_that_trains_has_no_control() -> None:
    """Neither a random change of the same norm nor fine-tuning on other sources stands in, of a seed
    whose control crashed neither; a note names the method. If even the first kept state used more images,
    or the method used none, the random change does.
    """
    norm = (Phase(SAME_NORM, 0, 0.0, BEFORE | {"accuracy": 0.7}),)
    sources = ("failing", "passing")
    few: dict[str, Any] = {"budget": {"backward": 5_000}, "phases": norm, "sources": sources}
    methods = [*cells("irepair", 0.75, **few), *cells("irepair[gamma_0]", 0.75, **few)]
    kept: dict[str, Any] = {"category": "control", "budget": {"backward": 90_000}}

    def control(name: str, first: int) -> list[Record]:
        return cells(name, 0.8, phases=phases((first, 30_000), 0.01), **kept)

    def answer(records: list[Record]) -> tuple[list[tuple[str, int]], list[str]]:
        table = table3(grid(records))
        assert table is not None
        asked = [q for q in questions(grid(records)) if q.kind == "control" and q.metric == "accuracy"]
        return [(q.against, q.found.n) for q in asked], [n for n in table.notes if n.startswith("Not comp")]

    note = "Not compared with fine-tuning on the same sources, which has no result: irepair (digits-fc{})."
    same = control("finetune[failing+passing]", 128)
    assert answer(methods) == ([], [note.format("")])
    assert answer([*methods, *control("finetune", 128)]) == ([], [note.format("")])
    assert answer([*methods, *same]) == ([("finetune[failing+passing], 1/4 of the budget", 10)], [])
    crashed = [dataclasses.replace(r, status="crashed", after={}) for r in same[:1]]
    found, notes = answer([*methods, *crashed, *same[1:]])
    assert [n for _, n in found] == [9]
    assert notes == [note.format(", 1 of 10 seeds")]
    late = control("finetune[failing+passing]", 6_000)
    assert answer([*methods, *late]) == ([(SAME_NORM, 10)], [])
    none = [dataclasses.replace(r, budget={"backward": 0}) for r in methods]
    assert answer(none) == ([(SAME_NORM, 10)], [])


def test_a_method_with_options_from_trials_has_the_tuned_fine_tuning_as_a_second_control() -> None:
    """It is better than its control only if it is better than both; without a tuned one a note says that
    the control chose its learning rate alone.
    """
    chosen = {"lr": {"value": 0.2, "given": True, "origin": "airepair tune --open on validation: 12 trials"}}
    plain: dict[str, Any] = {"budget": {"backward": 50_000}}
    own = cells("counterexample", 0.90, options=chosen, **plain)
    own += cells("counterexample[off]", 0.70, options=chosen, **plain)
    usual = cells("finetune", 0.80, category="control", budget={"backward": 40_000, "selection": 7_000})
    tuned = cells("finetune[tuned]", 0.90, category="control", budget={"backward": 40_000})

    def asked(records: list[Record]) -> tuple[list[tuple[str, int]], int, list[str]]:
        found = [q for q in questions(grid(records)) if q.kind == "control" and q.metric == "accuracy"]
        table = table3(grid(records))
        assert table is not None
        notes = [n for n in table.notes if n.startswith("Options chosen by trials")]
        assert any("took another 7,000 training images" in n for n in table.notes)
        return [(q.against, q.sign) for q in found], len(by_control(found, 1)), notes

    one = ("finetune, its whole budget", 1)
    assert asked([*own, *usual, *tuned]) == ([one, ("finetune[tuned], its whole budget", 0)], 0, [])
    found, better, (note,) = asked([*own, *usual])
    assert (found, better) == ([one], 1)
    assert note.endswith(
        "beside a fine-tuning that chose its learning rate alone: counterexample (digits-fc)."
    )
    untuned = [dataclasses.replace(r, options={}) for r in own]
    assert asked([*untuned, *usual, *tuned]) == ([one], 1, [])
    table = table3(grid([*own, *usual, *tuned]))
    assert table is not None
    which = [e.text for row in table.rows for e in row.entries if e.text.startswith("finetune")]
    assert which == ["finetune, its whole budget", "finetune[tuned], its whole budget"] * 2


def test_a_method_that_changes_nothing_is_compared_with_the_subject() -> None:
    """A change of norm 0 leaves no random change of the same norm in the record; the seed counts all the
    same, with no difference.
    """
    same = {"subject": {"weights": "a", "repaired_weights": "a"}, "budget": {"backward": 0}}
    idle = cells("memit", 0.70, **same)
    found = asked([*idle, *cells("memit[no_ordinary_keys]", 0.70, **same)])
    assert found["memit", "accuracy", SAME_NORM].found.n == len(idle)


def test_an_ablation_without_its_method_is_named_with_its_gain() -> None:
    """It has no row, but it ran."""
    table = table3(grid([r for r in example() if r.case.method != "memit"]))
    assert table is not None
    (note,) = (n for n in table.notes if n.startswith("Without a row"))
    assert "memit[no_ordinary_keys] (digits-fc: -" in note


def test_a_comparison_on_fewer_seeds_than_the_gain_says_so() -> None:
    """An ablation at four of ten seeds."""
    few = [r for r in example() if r.case.method != "dl2[weight_0]" or r.case.seed < 4]
    table = table3(grid(few))
    assert table is not None
    marked = [e.text for row in table.rows for e in row.entries if "(n=" in e.text]
    assert len(marked) == 2
    assert all(text.endswith(" (n=4)") for text in marked)


def test_a_line_below_says_for_how_many_methods() -> None:
    """Two of three for accuracy (Apricot would have to beat both of its ablations), none for the
    constraint.
    """
    table = table3(grid(example()))
    assert table is not None
    line = next(n for n in table.notes if n.startswith("Acc."))
    assert (
        "improves the repair significantly for 2 of 3 methods: DL2 (digits-fc), memit (digits-fc); "
        "for 0 it makes the repair worse." in line
    )
    assert any(
        n.startswith("Const. The idea improves the repair significantly for 0 of 3 methods")
        for n in table.notes
    )


def test_few_seeds_tell_nothing_and_the_table_says_so() -> None:
    """At five seeds the smallest p is .0625 before any correction."""
    few = [r for r in example() if r.case.seed < 5]
    table = table3(grid(few))
    assert table is not None
    assert not any(e.best for row in table.rows for e in row.entries)
    assert any(
        "With 5 seeds the permutation test cannot reach significance here; 7 comparisons need 9." in n
        for n in table.notes
    )


def test_a_method_has_a_row_for_each_of_its_ablations() -> None:
    """Its own gain and its control stand in the first; the columns are the same throughout."""
    table = table3(grid(example()))
    assert table is not None
    rows = [r for r in table.rows if r.entries[1].text in ("random_sets", "swapped_sets")]
    assert [r.labels[1:] for r in rows] == [("Apricot", "Acc."), ("", ""), ("Apricot", "Const."), ("", "")]
    assert [bool(r.entries[0].text) for r in rows] == [True, False, True, False]
    assert {len(r.entries) for r in table.rows} == {len(table.headings)}


def test_ablations_are_in_table_three_only(tmp_path: Path) -> None:
    """No row of Table I, of the extended report or of the paired tests; every form of Table III is
    written beside them; without one, none.
    """
    records = example()
    found = documents(grid(records), None)
    for name in ("table1", "extended", "paired"):
        assert "random_sets" not in render(found[name], "md")
    assert {f"table3.{form}" for form in ("txt", "md", "tex", "csv")} <= {
        p.name for p in write_all(records, tmp_path)
    }
    assert "Table III: is it the idea?" in terminal(records)
    assert "* marks significant differences." in terminal(records)
    assert "Table III: is it the idea?" in (tmp_path / "leaderboard.html").read_text()
    assert table3(grid([r for r in records if not ablation(r)])) is None


def test_tuned_rows_sweeps_and_controls_are_no_ablations() -> None:
    """`tuned`, a swept value, the sources of a control: these stand in Table I; a crashed ablation,
    which has no category, does not.
    """
    for name in ("dl2[tuned]", "dl2[lr:0.1]", "finetune[failing+passing]", "finetune[unlabelled]", "dl2"):
        assert ablation(record(f"digits-fc-{name}-s0")) == ""
    crashed = record("digits-fc-dl2[weight_0]-s0", "crashed", category="")
    assert ablation(crashed) == "weight_0"


def test_a_seed_that_one_side_lacks_is_left_out() -> None:
    """The ablation crashed at seed 0: nine seeds are compared; with none left there is no such comparison."""
    records = [
        dataclasses.replace(r, status="crashed", after={}) if r.key == "digits-fc-dl2[weight_0]-s0" else r
        for r in example()
    ]
    assert asked(records)["dl2", "accuracy", "weight_0"].found.n == 9


def test_the_csv_has_a_line_for_each_comparison() -> None:
    """Tidy: differences and bounds in points, each p by its name."""
    table = table3(grid(example()))
    assert table is not None
    lines = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert len(lines) == 14
    line = next(x for x in lines if (x["method"], x["metric"], x["which"]) == ("dl2", "accuracy", "weight_0"))
    assert float(line["low"]) < float(line["difference"]) < float(line["high"])
    assert (
        float(line["p"])
        == max(float(line["p_bootstrap"]), float(line["p_permutation"]))
        <= float(line["p_holm"])
    )
