"""Methods that come to one result are said once and counted once."""

from __future__ import annotations

import dataclasses

from airepair.records import Record
from airepair.report.cells import grid
from airepair.report.claims import claims
from airepair.report.table3 import IDEA, questions, table3
from airepair.report.twins import ablation_lines, lines, once, twins
from airepair.report.verdict import verdict
from tests.report.test_table3 import cells, example
from tests.report_records import record

FC, CNN = ("digits", "fc"), ("digits", "cnn")


def copied(records: list[Record], method: str) -> list[Record]:
    """The same results under another method's name."""
    found = []
    for r in records:
        case = dataclasses.replace(r.case, method=method + r.case.method.removeprefix(r.case.base_method))
        found.append(dataclasses.replace(r, case=case))
    return found


def weighted(case: str, before: str, after: str) -> Record:
    """A record without predictions, whose weights have these digests."""
    return record(case, subject={"weights": before, "repaired_weights": after})


def test_the_same_test_images_right_at_every_seed_make_twins() -> None:
    """At every seed: one that differs in a single image at one seed is no twin, nor is one that ran
    at fewer seeds.
    """
    own = cells("minimal", 0.8)
    other = copied(cells("minimal", 0.8), "prdnn")
    assert twins(grid([*own, *other])) == {FC: (("minimal", "prdnn"),)}
    assert twins(grid([*own, *other[1:]])) == {}
    different = dataclasses.replace(
        other[3], right={**other[3].right, "after": cells("minimal", 0.79)[3].right["after"]}
    )
    assert twins(grid([*own, *other[:3], different, *other[4:]])) == {}


def test_the_verdict_counts_the_idea_of_twins_once() -> None:
    """As the line below Table III does."""
    own = [*cells("minimal", 0.9), *cells("minimal[gradient]", 0.75)]
    found = grid([*own, *copied(own, "prdnn")])
    said = [s for s in verdict(found) if s.startswith("The idea")]
    assert said == ["The idea itself improves the repair significantly for 1 of 1 methods: minimal."]


def test_without_predictions_the_weights_decide() -> None:
    """Equal digests per seed are twins; records without a digest are not, nor are repairs that
    change nothing.
    """
    ran = [weighted(f"digits-cnn-{m}-s{s}", f"w{s}", f"r{s}") for m in ("minimal", "prdnn") for s in (0, 1)]
    assert twins(grid(ran)) == {CNN: (("minimal", "prdnn"),)}
    assert lines(twins(grid(ran))) == [
        "Counted once: minimal and prdnn give the same result at every seed (digits-cnn)."
    ]
    assert twins(grid([record(f"digits-cnn-{m}-s0") for m in ("minimal", "prdnn")])) == {}
    assert twins(grid([weighted(f"digits-cnn-{m}-s0", "w", "w") for m in ("noop", "mode")])) == {}


def test_a_table_says_who_is_whose_twin() -> None:
    """One line below it."""
    own = cells("minimal", 0.8)
    assert [t for t in claims(grid([*own, *copied(own, "prdnn")]), ()) if t.startswith("Counted once")] == [
        "Counted once: minimal and prdnn give the same result at every seed (digits-fc)."
    ]
    assert not any(t.startswith("Counted once") for t in claims(grid(own), ()))


def test_table_three_counts_twins_once() -> None:
    """memit under a second name is no second method whose idea can be told; it keeps its rows."""
    copies = copied([r for r in example() if r.case.base_method == "memit"], "minimal")
    table = table3(grid([*example(), *copies]))
    assert table is not None
    line = next(n for n in table.notes if n.startswith("Acc."))
    assert " of 3 methods" in line
    assert {row.labels[1] for row in table.rows} >= {"minimal", "memit"}


def test_twins_in_one_column_of_two_are_two_methods() -> None:
    """Who differs somewhere is counted."""
    found = {FC: (("minimal", "prdnn"),)}
    assert once(["minimal", "prdnn"], {"minimal": [FC], "prdnn": [FC]}, found) == ["minimal"]
    assert once(["minimal", "prdnn"], {"minimal": [FC, CNN], "prdnn": [FC, CNN]}, found) == [
        "minimal",
        "prdnn",
    ]
    assert once(["minimal", "prdnn"], {"minimal": [FC], "prdnn": [FC]}, {}) == ["minimal", "prdnn"]


def settled(records: list[Record], method: str, layer: str) -> list[Record]:
    """The same results of an ablation or a method whose layer is this one."""
    return [
        dataclasses.replace(
            r,
            case=dataclasses.replace(r.case, method=method),
            options={"layer": {"value": layer, "given": True, "origin": "profile x"}},
        )
        for r in records
    ]


def test_an_ablation_with_the_methods_own_settings_is_no_comparison() -> None:
    """A profile gave both the last layer: there is no question, and a line says so."""
    right = cells("prdnn", 0.8)
    own = settled(right, "prdnn", "last")
    found = grid([*own, *settled(right, "prdnn[last_layer]", "last")])
    assert [q for q in questions(found) if q.kind == IDEA] == []
    assert ablation_lines(found) == [
        "Not compared, since its settings are the method's own: prdnn[last_layer] (digits-fc)."
    ]


def test_an_ablation_that_comes_to_the_methods_result_is_compared_and_named() -> None:
    """Its settings differ: the comparison stands with a difference of zero. One other image at one
    seed, and the line is gone.
    """
    right = cells("prdnn", 0.8)
    own, ablated = settled(right, "prdnn", "auto"), settled(right, "prdnn[last_layer]", "last")
    found = grid([*own, *ablated])
    assert {q.found.difference for q in questions(found) if q.kind == IDEA} == {0.0}
    table = table3(found)
    assert table is not None
    line = "Without its idea the method gives the same result at every seed: prdnn[last_layer] (digits-fc)."
    assert line in table.notes
    other = settled(cells("prdnn", 0.79), "prdnn[last_layer]", "last")
    assert ablation_lines(grid([*own, *ablated[:3], other[3], *ablated[4:]])) == []
