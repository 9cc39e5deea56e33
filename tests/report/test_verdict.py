"""The verdict on one screen, and which method to use."""

import dataclasses
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.cli.main import main
from airepair.records import SAME_NORM, Record, read
from airepair.report.cells import grid
from airepair.report.comparison import Comparison
from airepair.report.recommend import candidates, recommendations
from airepair.report.screen import LINES, WIDTH, short
from airepair.report.table3 import CONTROL, Question
from airepair.report.verdict import verdict

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(p.parent for p in (ROOT / "reports").glob("*/records.jsonl") if p.parent.name != "out")


def cell(method: str, gain: float, seed: int = 0, category: str = "retraining", **more: object) -> Record:
    """A repaired cell with that gain, in shares, on test and on validation."""
    facts = {"validation_accuracy": 0.6, "repaired_validation_accuracy": 0.6 + gain}
    record = Record(
        Case("digits", "fc", method, seed),
        "repaired",
        category=category,
        before={"accuracy": 0.6, "constraint": 0.5},
        after={"accuracy": 0.6 + gain, "constraint": 0.5, "break_rate": 0.02},
        budget={"backward": 1000},
        cost={"seconds": 2.0},
        subject=facts,
        provenance={"n": {"validation": 300}, "benchmark_version": 2},
    )
    return dataclasses.replace(record, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: p.name)
def test_the_verdict_fits_one_screen(folder: Path) -> None:
    """At most 60 lines of 80 characters, paths included, for every committed set of records."""
    text = short(grid(read([folder])[0]), ["wrote records.jsonl", "all tables: here", "cells: there"])
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[-3:] == ["wrote records.jsonl", "all tables: here", "cells: there"]


def test_methods_stand_the_papers_first_then_by_gain() -> None:
    """And one that did not run is not in the table but in a sentence."""
    records = [
        cell("finetune", 0.05, category="control"),
        cell("dl2", 0.01),
        cell("memit", 0.02),
        cell("minimal", -0.3),
    ]
    records.append(cell("prdnn", 0, status="unsupported", reason="no layer", after={}))
    rows = [line.split()[0] for line in short(grid(records)).splitlines() if "+" in line or "-3" in line]
    assert [r for r in rows if r in ("DL2", "finetune", "memit", "minimal", "prdnn")] == [
        "DL2",
        "finetune",
        "memit",
        "minimal",
    ]
    said = " ".join(verdict(grid(records)))
    assert "unsupported wherever they were tried: prdnn" in said
    assert (
        "these methods lose accuracy on every subject that they ran on: minimal. "
        "Largest mean loss: minimal, -30.00 points (digits-fc)."
    ) in said
    assert "plain training may do as well" in said


def test_a_method_that_was_compared_with_a_random_change_is_not_called_better_than_fine_tuning() -> None:
    """Each of the two controls has its own sentence."""
    better = Comparison(20, 0.05, 0.03, 0.07, 0.001, 0.001)
    place = ("digits", "fc")
    asked = [
        Question(place, "dl2", "accuracy", CONTROL, "finetune, 1/8 of the budget", better, 0.01),
        Question(place, "memit", "accuracy", CONTROL, SAME_NORM, better, 0.01),
        Question(
            place, "care", "accuracy", CONTROL, SAME_NORM, dataclasses.replace(better, difference=-0.1), 0.01
        ),
    ]
    records = [cell(m, 0.1) for m in ("dl2", "memit", "care")]
    (said,) = (s for s in verdict(grid(records), asked) if s.startswith("Better"))
    assert said == (
        "Better than fine-tuning on the same sources: DL2 (digits-fc). With fewer training images than "
        "fine-tuning's first state, better than a random change of the same norm: memit (digits-fc). "
        "Worse: care (digits-fc)."
    )


def test_a_comparison_with_fine_tuning_that_was_never_made_is_not_reported() -> None:
    """All methods were compared with a random change alone: none is worse than fine-tuning, nor equal."""
    better = Comparison(20, 0.05, 0.03, 0.07, 0.001, 0.001)
    alone = Question(("digits", "fc"), "memit", "accuracy", CONTROL, SAME_NORM, better, 0.01)
    cells = grid([cell("memit", 0.1)])
    never = "No method was compared with fine-tuning on the same sources: plain training may do as well."
    assert any(s.startswith(f"{never} With fewer training images than") for s in verdict(cells, [alone]))
    assert never in verdict(cells, [dataclasses.replace(alone, p=1.0)])


def test_controls_on_other_sources_are_counted_and_long_names_stay_apart() -> None:
    """Fine-tuning on a method's sources stands beside that method in other tables; a sweep's rows
    differ in the middle of their names.
    """
    records = [
        cell(f"finetune[{v}]", 0.05, category="control")
        for v in ("failing+passing", "failing+unlabelled", "tuned")
    ]
    records += [cell(f"dl2[weight:{w},candidates:50]", 0.1) for w in ("0.2", "0.4")]
    text = short(grid(records))
    assert "... 2 more controls on other sources: table1.txt" in text
    assert "finetune[tuned]" in text
    assert "DL2[weight:0.2,candidates:50] " in text
    assert "DL2[weight:0.4,candidates:50] " in text


def test_what_failed_is_counted_in_the_first_sentence() -> None:
    """A crash is no silence."""
    records = [cell("dl2", 0.01), cell("memit", 0, status="crashed", reason="the worker died", after={})]
    assert verdict(grid(records))[0] == "1 cell repaired (1 method, 1 subject, 1 seed); 1 crashed."
    assert verdict(grid([])) == ["Nothing ran."]


def test_subjects_with_fewer_seeds_than_another_are_not_counted_with_its_seeds() -> None:
    """A column of one seed beside a column of three."""
    few = dataclasses.replace(cell("mine", 0.1), case=Case("digits", "cnn", "mine", 0))
    many = [cell("mine", 0.1, seed) for seed in range(3)]
    assert verdict(grid([few, *many]))[0] == "4 cells repaired (1 method, 2 subjects, 1 to 3 seeds each)."
    assert verdict(grid(many))[0] == "3 cells repaired (1 method, 1 subject, 3 seeds)."


def test_a_control_with_tuned_settings_is_no_method_that_loses_accuracy() -> None:
    """Its name is not the control's, its category is."""
    records = [cell("random[tuned]", -0.1, category="control"), cell("dl2", -0.02), cell("finetune", 0.1)]
    (line,) = (s for s in verdict(grid(records)) if "lose accuracy" in s)
    assert "random" not in line
    assert "DL2" in line


def test_the_largest_loss_is_of_any_method_and_names_its_subject() -> None:
    """A method that loses wherever it ran says on how many subjects that was; another lost more on one."""
    elsewhere = dataclasses.replace(cell("dl2", -0.3), case=Case("digits", "cnn", "dl2", 0))
    (line,) = (
        s
        for s in verdict(grid([cell("memit", -0.02), cell("dl2", 0.1), elsewhere]))
        if "Largest mean loss" in s
    )
    assert line.endswith("they ran on: memit (1 of 2). Largest mean loss: DL2, -30.00 points (digits-cnn).")
    gained = [cell("memit", 0.02), cell("dl2", 0.1)]
    assert not [s for s in verdict(grid(gained)) if "Largest mean loss" in s]


def test_cells_that_were_not_run_are_counted_with_their_seeds() -> None:
    """Two seeds of a method in one column and one in the other; a column without tuned rows lacks none."""
    records = [
        *(cell("finetune", 0.1, seed, category="control") for seed in (0, 1)),
        *(cell("dl2[tuned]", 0.1, seed) for seed in (0, 1)),
        *(cell("dl2", 0.1, s, case=Case("digits", "cnn", "dl2", s)) for s in (0, 1)),
        cell("finetune", 0.1, category="control", case=Case("digits", "cnn", "finetune", 0)),
    ]
    assert "Not in the table: 3 cells that were not run." in verdict(grid(records))


def test_a_fault_is_one_line_with_the_three_best() -> None:
    """By recovery."""
    fault = {"fault": {"name": "missing", "severity": 0.5}}
    found = []
    for name, recovery in (("dl2", 0.2), ("memit", 0.9), ("apricot", 0.5), ("minimal", 0.1)):
        record = cell(name, 0.1, case=Case("digits", "fc+missing", name, 0), subject=fault)
        found.append(dataclasses.replace(record, after={**record.after, "recovery": recovery}))
    assert "Best recovery per fault, in %:\ndigits-fc+missing: memit 90, Apricot 50, DL2 20\n" in short(
        grid(found)
    )


def test_the_best_recovery_is_of_a_method_that_wrecks_nothing_and_has_every_seed() -> None:
    """As in Table II; if all were wrecked there is none."""
    fault = {"fault": {"name": "missing", "severity": 0.5}}

    def found(name: str, recovery: float, gain: float, n: int) -> list[Record]:
        case = f"digits-fc+missing-{name}-s"
        return [
            dataclasses.replace(r, after={**r.after, "recovery": recovery})
            for r in (cell(name, gain, case=Case.parse(f"{case}{s}"), subject=fault) for s in range(n))
        ]

    wrecked, lucky = found("minimal", 1.4, -0.5, 3), found("memit", 1.2, 0.1, 1)
    said = short(grid([*wrecked, *lucky, *found("dl2", 0.2, 0.1, 3)]))
    assert "Best recovery per fault, in %:\ndigits-fc+missing: DL2 20\n" in said
    assert "digits-fc+missing: none\n" in short(grid(wrecked))


def test_a_recommendation_has_cost_damage_and_the_papers_rule() -> None:
    """The records may disagree with the rule, and a method that wrecks the model is named."""
    records = [
        cell("finetune", 0.05, category="control"),
        cell("dl2", 0.3),
        cell("memit", 0.02, category="direct weight modification"),
        cell("minimal", -0.45, category="direct weight modification"),
    ]
    (line,) = recommendations(grid(records))
    assert line.startswith("digits/FC (validation): use DL2 (+30.00")
    assert "DL2 breaks 2.00 % of the right test inputs, costs 1,000 training images, 2.0 s." in line
    assert (
        "tries direct weight modification first on a small network; the records disagree: memit +2.00" in line
    )
    assert "Wrecks the model (accuracy under half of before): minimal." in line


def test_a_brought_resnet_is_a_large_network_whatever_its_file_is_called() -> None:
    """The column's name begins with that of the data set, and a file that is no ResNet is small."""
    for model, size in (
        ("cifar100_resnet18_undertrained", "retraining first on a large"),
        ("my_net", "small"),
    ):
        records = [
            cell(method, 0.1, category=category, case=Case("cifar100", model, method, 0))
            for method, category in (("dl2", "retraining"), ("memit", "direct weight modification"))
        ]
        assert size in recommendations(grid(records))[0]


def test_a_recommendation_says_how_many_seeds_and_whose_options_came_from_trials() -> None:
    """A control with one of two seeds may be the bar, but its n stands beside it."""
    options = {"lr": {"value": 0.1, "given": True, "origin": "tuned: commit 0123456"}}
    records = [
        cell("finetune", 0.2, category="control"),
        *(cell("dl2[tuned]", 0.1, seed, options=options) for seed in (0, 1)),
    ]
    (line,) = recommendations(grid(records))
    assert line.count(", n = 1)") == 1
    assert line.count(", n = 2)") == 1
    assert "Trials on validation chose options of DL2[tuned]." in line


def seeds(method: str, gains: list[float], **more: object) -> list[Record]:
    """A cell per seed with these gains."""
    return [cell(method, g, seed, **more) for seed, g in enumerate(gains)]  # type: ignore[arg-type]


def test_a_method_is_told_from_the_control_seed_by_seed() -> None:
    """Gains that spread over seeds but always beat the control's are told from it; those that
    sometimes do are not, and both are named.
    """
    control = seeds("finetune", [0.02, 0.10, 0.18, 0.26, 0.34], category="control")
    (line,) = recommendations(grid(control + seeds("dl2", [0.05, 0.13, 0.22, 0.29, 0.37])))
    assert "use DL2 (+21.20" in line
    assert "It beats finetune (+18.00" in line
    assert "by +3.20, interval +2.64..+3.76 for the best of 1" in line
    (line,) = recommendations(grid(control + seeds("dl2", [0.00, 0.20, 0.18, 0.27, 0.34])))
    assert "use DL2 (+19.80" in line
    assert "or finetune (+18.00" in line
    assert "the difference is not significant (+1.80" in line


def test_the_best_of_many_needs_more_than_the_best_of_one() -> None:
    """The same gains, chosen among six methods, have a wider interval, which holds zero."""
    control = seeds("finetune", [0.02, 0.10, 0.18, 0.26, 0.34], category="control")
    best = seeds("dl2", [0.03, 0.14, 0.19, 0.31, 0.36])
    assert "It beats" in recommendations(grid(control + best))[0]
    others = [c for name in ("memit", "care", "mode", "irepair", "aprnn") for c in seeds(name, [0.01] * 5)]
    (line,) = recommendations(grid(control + best + others))
    assert "for the best of 6" in line
    assert "the difference is not significant" in line


def test_the_command_recommends_for_the_subjects_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown one is bad input with what there is."""
    from airepair.records import append

    append(tmp_path / "records.jsonl", cell("dl2", 0.1))
    append(tmp_path / "records.jsonl", cell("dl2", 0.1, case=Case("digits", "cnn", "dl2", 0)))
    assert main(["recommend", str(tmp_path), "--subject", "digits-fc"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Recommendation for digits/FC")
    assert "digits/CNN" not in shown
    assert main(["recommend", str(tmp_path), "--subject", "digits-fx"]) == 2
    assert "did you mean 'digits-fc'" in capsys.readouterr().err


def test_records_of_another_version_are_named_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the verdict and by the command: nothing in them may be claimed."""
    from airepair.records import append

    old = cell("dl2", 0.1, provenance={"n": {"validation": 300}, "benchmark_version": 1})
    append(tmp_path / "records.jsonl", old)
    said = "These records are of benchmark version 1, this is version 2: nothing in them may be claimed."
    assert verdict(grid([old]))[0] == said
    assert main(["recommend", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(said)


def test_an_interval_is_of_the_number_that_is_judged() -> None:
    """Given inputs whose repair rate is not known: the gain is that of validation alone, and so is its
    interval, which would be half as wide for the mean of both.
    """
    one = cell("dl2", 0.05)
    n = {"test": 497, "validation": 300, "failing": 40}
    plain, asked, both = (
        dataclasses.replace(one, after=a, provenance={**one.provenance, "n": n, "failing": f})
        for a, f in (
            (one.after, "repair split"),
            (one.after, "given"),
            ({**one.after, "repair_rate": 0.5}, "given"),
        )
    )
    found = [candidates(grid([r]), ("digits", "fc"))[0] for r in (plain, asked, both)]
    assert (found[0].low, found[0].high) == (found[1].low, found[1].high)
    assert found[2].gain == pytest.approx((5 + 50) / 2)
    assert found[0].gain == found[1].gain == pytest.approx(5)


def test_a_method_that_lacks_seeds_is_neither_recommended_nor_the_largest_gain() -> None:
    """It failed where the repair is hard; the sentence names it. A control that lacks seeds stays the
    bar, on the seeds that both have.
    """
    gains = (0.10, 0.02, 0.03, 0.01)
    records = [cell("memit", g, s) for s, g in enumerate(gains)] + [cell("dl2", 0.09, 0)]
    (text,) = recommendations(grid(records))
    assert "use memit (+4.00" in text
    assert "Not judged, with fewer than the 4 seeds: DL2 (1)." in text
    assert "Largest mean gain of a repair method: memit, +4.00 points" in " ".join(verdict(grid(records)))
    beside = [cell("finetune", 0.09, s, category="control") for s in (0,)]
    (text,) = recommendations(grid(records + beside))
    assert "memit" in text.partition("finetune")[0]
    assert "+1.00, interval" in text
    noop = [cell("noop", 0.0, s, category="control") for s in range(4)]
    (text,) = recommendations(grid([*noop, cell("dl2", 0.09, 0)]))
    assert "no repair method has a result at each of the 4 seeds; on fewer: DL2 (+9.00" in text
