"""The findings: a claim stands only if it holds after correction, over twenty seeds, in both arithmetics."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from airepair.cli.main import main
from airepair.records import Record, append, read
from airepair.report.findings import SEEDS, findings
from tests.report.test_table3 import cells
from tests.report.test_twins import copied

ROOT = Path(__file__).parents[2]
COMMITTED = ("reports/digits", "reports/digits-native")


def arithmetic(records: list[Record], name: str) -> list[Record]:
    """The records as computed in that arithmetic."""
    return [dataclasses.replace(r, provenance={**r.provenance, "arithmetic": name}) for r in records]


def run(with_idea: float, without: float, seeds: int = SEEDS) -> list[Record]:
    """A method at those shares of right answers with its idea and without it, and its control at 80 %."""
    found = cells("finetune", 0.80, seeds, category="control", budget={"backward": 30_000})
    for method, right in (("dl2", with_idea), ("dl2[weight_0]", without)):
        found += cells(method, right, seeds, budget={"backward": 50_000})
    return found


def page(portable: list[Record], native: list[Record]) -> str:
    """The findings of both."""
    return findings([*arithmetic(portable, "portable"), *arithmetic(native, "native")], "somewhere")


def section(text: str, title: str) -> str:
    """What stands under a heading."""
    return text.partition(f"## {title}")[2].partition("\n## ")[0]


def test_a_claim_holds_in_both_arithmetics() -> None:
    """Ten points with the idea: told in both, with both differences, and counted."""
    text = section(page(run(0.90, 0.80), run(0.91, 0.80)), "Is it the idea?")
    assert (
        "Accuracy: 1 of 1 comparisons are significant. The idea improves the repair significantly for 1 "
        "of 1 methods." in text
    )
    (row,) = (line for line in text.splitlines() if line.startswith("| digits FC"))
    assert "| DL2 | weight" in row
    assert row.count("+9.") + row.count("+10.") + row.count("+11.") >= 2


@pytest.mark.parametrize(
    ("portable", "native"),
    [
        ((0.90, 0.80), (0.80, 0.80)),  # told in one arithmetic only
        ((0.90, 0.80), (0.80, 0.90)),  # in opposite directions
        ((0.80, 0.80), (0.80, 0.80)),  # in none
    ],
)
def test_what_holds_in_one_arithmetic_is_no_claim(
    portable: tuple[float, float], native: tuple[float, float]
) -> None:
    """It is named among those that cannot be told from zero."""
    text = section(page(run(*portable), run(*native)), "Is it the idea?")
    assert (
        "Accuracy: 0 of 1 comparisons are significant. The idea improves the repair significantly for 0 "
        "of 1 methods." in text
    )
    assert "Not significant: digits FC: DL2 (weight\\_0)." in text
    assert "| digits FC" not in text


def test_nineteen_seeds_claim_nothing() -> None:
    """Whatever the difference: the column is named with its seeds."""
    text = page(run(0.90, 0.80, 19), run(0.90, 0.80, 20))
    assert "Accuracy: no comparison has 20 seeds in both arithmetics" in section(text, "Is it the idea?")
    assert "digits-fc (native: n = 20, portable: n = 19)" in section(text, "Columns without a claim")


def test_a_comparison_that_lost_a_seed_is_no_claim() -> None:
    """The column has twenty seeds, but the ablation crashed at one of them."""
    broken = [
        dataclasses.replace(r, status="crashed", after={}) if r.key == "digits-fc-dl2[weight_0]-s7" else r
        for r in run(0.90, 0.80)
    ]
    text = section(page(broken, run(0.90, 0.80)), "Is it the idea?")
    assert "Accuracy: 0 of 1 comparisons" in text


def test_the_correction_is_for_the_whole_table() -> None:
    """A lead that p = .03 gives alone is none among many comparisons; here: six methods that do
    nothing beside a small difference.
    """
    small, crowd = (
        run(0.805, 0.80),
        [r for k in range(1, 7) for m in ("m" * k, f"{'m' * k}[off]") for r in cells(m, 0.80, SEEDS)],
    )
    alone, among = (section(page(r, r), "Is it the idea?") for r in (small, [*small, *crowd]))
    assert "Accuracy: 1 of 1 comparisons" in alone
    assert "Accuracy: 0 of 7 comparisons" in among


def test_a_method_under_two_names_is_counted_once() -> None:
    """The same results as dl3: no second claim, no second best that the first cannot be told from,
    and a line that says so.
    """
    records = run(0.90, 0.80)
    both = [*records, *copied([r for r in records if r.case.base_method == "dl2"], "dl3")]
    text = page(both, both)
    assert "Counted once: DL2 and dl3 give the same result at every seed (digits-fc)." in text
    assert "Accuracy: 1 of 1 comparisons are significant." in section(text, "Is it the idea?")
    for title in ("What repairs at all?", "Which method is best?"):
        assert section(text, title) == section(page(records, records), title)


def test_tuned_rows_are_not_judged() -> None:
    """Their settings have seen test images of digits: no claim, no place in a family, and a sentence."""
    records = run(0.90, 0.80)
    tuned = cells("dl2[tuned]", 0.99, SEEDS, budget={"backward": 50_000})
    with_tuned, without = (page(r, r) for r in ([*records, *tuned], records))
    assert "tuned settings are not judged" in with_tuned
    assert "tuned settings are not judged" not in without
    for title in ("Is it the idea?", "What repairs at all?", "Which method is best?"):
        assert section(with_tuned, title) == section(without, title)


def test_open_options_from_trials_are_judged_beside_the_tuned_fine_tuning_too() -> None:
    """Better than plain fine-tuning, no better than the tuned one: the second is named as not significant."""
    options = {"lr": {"value": 0.2, "given": True, "origin": "airepair tune --open on validation: 12 trials"}}
    records = [dataclasses.replace(r, options=options) if "dl2" in r.key else r for r in run(0.90, 0.80)]
    tuned = cells("finetune[tuned]", 0.90, SEEDS, category="control", budget={"backward": 30_000})
    text = section(page([*records, *tuned], [*records, *tuned]), "Beyond fine-tuning?")
    assert "Accuracy: 1 of 2 comparisons are significant." in text
    assert "| digits FC | DL2 | fine-tuning |" in text
    assert "Not significant: digits FC: DL2 (tuned fine-tuning)." in text


def test_the_best_of_a_column_is_claimed_if_told_from_the_second() -> None:
    """DL2 at 90 % is ten points ahead of fine-tuning; the ablation, which is no row of Table I, is
    not the second.
    """
    text = section(page(run(0.90, 0.89), run(0.90, 0.89)), "Which method is best?")
    assert "Accuracy: 1 of 1 comparisons are significant." in text
    assert "| digits FC | DL2 | finetune |" in text


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed or written, from a file of both arithmetics."""
    for r in [*arithmetic(run(0.90, 0.80), "portable"), *arithmetic(run(0.90, 0.80), "native")]:
        append(tmp_path / "records.jsonl", r)
    assert main(["findings", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert main(["findings", str(tmp_path), "--out", str(tmp_path / "findings.md")]) == 0
    assert (tmp_path / "findings.md").read_text() == printed
    assert "1 of 1 comparisons" in printed
    assert main(["findings", str(tmp_path / "nowhere")]) == 2


def test_the_committed_page_is_what_the_committed_records_allow() -> None:
    """Byte for byte (AIREPAIR_GOLDEN=write writes it anew): nothing on it was typed."""
    text = findings(read([ROOT / p for p in COMMITTED])[0], " ".join(COMMITTED))
    path = ROOT / "docs" / "findings.md"
    if os.environ.get("AIREPAIR_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text
