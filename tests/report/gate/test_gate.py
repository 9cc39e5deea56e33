"""The gate: never green by accident.

Twelve prepared pairs of runs with their exit codes, rules, decisions, outputs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airepair.api import compare
from airepair.cli.main import main
from airepair.errors import UsageError
from airepair.records import Record, append, right_answers
from airepair.report.gate.decision import change, inverted
from airepair.report.gate.defaults import RULES
from airepair.report.gate.output import sentences, table
from airepair.report.gate.rules import parse, rules_of
from airepair.report.gate.verdict import judge
from airepair.report.statistics import Pair
from airepair.report.text import terminal
from tests.report_records import record

IMAGES = 400
SEEDS = 5
METHODS = ("noop", "finetune", "dl2")
Run = dict[str, Record]


def run(seeds: int = SEEDS, arithmetic: str = "portable") -> Run:
    """A run of three methods; dl2 gets 320 of 400 test images right."""
    found = {}
    for method in METHODS:
        for seed in range(seeds):
            one = record(f"digits-cnn-{method}-s{seed}")
            known = {"data": {"test": f"{seed}" * 64}, "repaired_weights": f"{method}{seed}"}
            options = {"weight": {"value": 5, "given": True, "origin": "given"}} if method == "dl2" else {}
            provenance = {**one.provenance, "arithmetic": arithmetic}
            one = dataclasses.replace(
                one, subject={**one.subject, **known}, options=options, provenance=provenance
            )
            found[one.key] = answered(one)
    return found


def answered(one: Record) -> Record:
    """The record with right answers on 400 images of its seed that fit its accuracy."""
    right = np.arange(IMAGES) < round(IMAGES * one.after.get("accuracy", 0.0))
    index = np.arange(IMAGES) + 1000 * one.case.seed
    return dataclasses.replace(
        one, right={"tested": right_answers.tested(index), "after": right_answers.pack(right)}
    )


def each(
    change: Callable[[Record], Record | None],
    method: str = "dl2",
    seeds: tuple[int, ...] = tuple(range(SEEDS)),
) -> Callable[[Run], Run]:
    """The run with those cells of a method changed, or without them."""

    def changed(old: Run) -> Run:
        found = {
            k: change(r) if r.case.method == method and r.case.seed in seeds else r for k, r in old.items()
        }
        return {k: r for k, r in found.items() if r is not None}

    return changed


def scored(by: int) -> Callable[[Record], Record]:
    """Accuracy changed by so many images of 400, with the right answers, and other weights."""

    def changed(old: Record) -> Record:
        more = (by + old.case.seed % 2) / IMAGES if by else 0.0  # seeds differ a little
        after = {**old.after, "accuracy": old.after["accuracy"] + more}
        return answered(
            dataclasses.replace(
                old, after=after, subject={**old.subject, "repaired_weights": f"new{old.case.seed}"}
            )
        )

    return changed


def without(metric: str) -> Callable[[Record], Record]:
    """The metric is missing, with a reason."""
    return lambda old: dataclasses.replace(
        old, after={k: v for k, v in old.after.items() if k != metric}, missing={metric: "the split is empty"}
    )


def options(value: int) -> Callable[[Record], Record]:
    """Another weight."""
    return lambda old: dataclasses.replace(
        old, options={"weight": {"value": value, "given": True, "origin": "given"}}
    )


def data(old: Record) -> Record:
    """Another test split."""
    return dataclasses.replace(old, subject={**old.subject, "data": {"test": "f" * 64}})


def versioned(old: Record) -> Record:
    """Numbers of another benchmark version."""
    return dataclasses.replace(old, provenance={**old.provenance, "benchmark_version": 3})


def nan(line: str) -> str:
    """The line with a score that is not a number, as Python's json writes it."""
    content = json.loads(line)
    content["after"]["accuracy"] = math.nan
    return json.dumps(content)


def written(folder: Path, records: Run, lines: Callable[[Record], str] = Record.to_json) -> Path:
    """A run's folder with its records."""
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(lines(r) + "\n" for r in records.values()))
    return folder


def everything(change: Callable[[Record], Record]) -> Callable[[Run], Run]:
    """Every record changed."""
    return lambda old: {k: change(r) for k, r in old.items()}


# name -> how the second run differs from the first, the exit code, words of what is printed
PAIRS: dict[str, tuple[Callable[[Run], Run], int, list[str]]] = {
    "method gone": (
        each(lambda _: None),
        10,
        ["Missing: digits-cnn-dl2: it did not run", "Regressed in 1 of 3 cells", "exit code 10"],
    ),
    "not a number": (each(lambda r: r, seeds=(1,)), 10, ["Missing: digits-cnn-dl2: seed 1 is gone"]),
    "metric gone": (
        each(without("accuracy"), seeds=(2,)),
        10,
        ["dl2: seed 2 has no accuracy (the split is empty)"],
    ),
    "seeds gone": (
        each(lambda _: None, seeds=(1, 2, 3, 4)),
        10,
        ["seed 1 is gone; seed 2 is gone; seed 3 is gone; seed 4 is gone"],
    ),
    "crashed": (
        each(lambda r: dataclasses.replace(r, status="crashed", reason="signal 9", after={}), seeds=(3,)),
        10,
        ["seed 3 was not repaired: crashed (signal 9)"],
    ),
    "options differ": (each(options(50)), 11, ["Not comparable: digits-cnn-dl2: dl2.weight: was 5, is 50"]),
    "data differ": (
        each(data, seeds=(0,)),
        11,
        ["Not comparable: digits-cnn-dl2: data of test: was 000000000000, is ffffffffffff"],
    ),
    "other version": (
        everything(versioned),
        11,
        ["benchmark version: was 2, is 3", "Not comparable; 0 cells compared"],
    ),
    "equal bits": (
        dict,
        0,
        [
            "Nothing changed: the repaired weights are equal, bit for bit, in portable arithmetic; "
            "3 cells compared"
        ],
    ),
    "better": (each(scored(12)), 0, ["No regression; 3 cells compared; exit code 0"]),
    "worse": (
        each(scored(-24)),
        10,
        ["Regressed: digits-cnn-dl2: accuracy -5.90 pp (81.00 to 75.10)", "5 seeds of 400 test images"],
    ),
    "within what is allowed": (each(scored(-1)), 0, ["No regression"]),
    "at the edge of what is allowed": (
        each(scored(-4)),
        12,
        ["Undecided: digits-cnn-dl2: accuracy", "allowed 1.00; 5 seeds of 400", "exit code 12"],
    ),
    "empty": (lambda _: {}, 10, ["Missing: digits-cnn-noop: it did not run", "Regressed in 3 of 3 cells"]),
}


@pytest.mark.parametrize(("change", "code", "words"), PAIRS.values(), ids=list(PAIRS))
def test_prepared_pairs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Run], Run],
    code: int,
    words: list[str],
    request: pytest.FixtureRequest,
) -> None:
    """Each pair has its exit code, and the last lines say why; gate.json has the same code."""
    old = written(tmp_path / "old", run())
    damaged = request.node.callspec.id == "not a number"

    def line(one: Record) -> str:
        return nan(one.to_json()) if damaged and one.key == "digits-cnn-dl2-s1" else one.to_json()

    new = written(tmp_path / "new", change(run()), line)
    if not change(run()):
        (new / "records.jsonl").write_text("")
    assert main(["compare", str(old), str(new), "--out", str(tmp_path / "gate")]) == code
    shown = capsys.readouterr()
    text = " ".join(shown.out.split())
    assert all(word in text for word in words), shown.out
    assert json.loads((tmp_path / "gate" / "gate.json").read_text())["exit_code"] == code
    if damaged:
        assert "after.accuracy is nan; accepted: a number that is finite" in shown.err


@pytest.mark.parametrize("seeds", [1, 3, 4])
def test_too_few_seeds_decide_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: int) -> None:
    """With three seeds the smallest p is 1/8, whatever they show: 12, and the sentence says that no
    change could have been shown.

    At the level .85 three seeds are enough; where nothing changed one is.
    """
    old = written(tmp_path / "old", run(seeds))
    new = written(tmp_path / "new", each(scored(-24))(run(seeds)))
    assert main(["compare", str(old), str(new)]) == 12
    assert f"{seeds} seed{'s' * (seeds > 1)} of 400 test images cannot show any change" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["compare", str(old), str(new), "--level", "0.85"]) == (
        12 if seeds == 1 else 10 if seeds > 2 else 12
    )
    assert main(["compare", str(old), str(old)]) == 0


def test_an_empty_baseline_compares_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And so does one in which nothing was repaired: 11."""
    new = written(tmp_path / "new", run())
    for name, records in (
        ("none", {}),
        ("failed", everything(lambda r: dataclasses.replace(r, status="failed", after={}))(run())),
    ):
        old = written(tmp_path / name, records)
        assert main(["compare", str(old), str(new)]) == 11
    assert "the baseline did not repair it" not in capsys.readouterr().err


def test_a_baseline_that_cannot_be_read_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2; and a bad line of the new records that costs no cell of the baseline is 2 as well, not green."""
    old, new = written(tmp_path / "old", run()), written(tmp_path / "new", run())
    with (new / "records.jsonl").open("a") as file:
        file.write("nonsense}\n")
    assert main(["compare", str(old), str(new)]) == 2
    assert main(["compare", str(new), str(old)]) == 2
    assert capsys.readouterr().err.count("not JSON") == 2


def test_a_baseline_that_was_cut_off_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cell of its unfinished last line would not be judged, and the gate be green; in the new records
    the same cell is missing.
    """
    old, new = written(tmp_path / "old", run()), written(tmp_path / "new", run())
    whole = (old / "records.jsonl").read_bytes()
    (old / "records.jsonl").write_bytes(whole[:-100])
    assert main(["compare", str(old), str(new)]) == 2
    assert "an unfinished last line was left out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unfinished last line"):
        compare(old, new)
    assert compare(new, old).code == 10


def code_of(new: Run, *rules: str, old: Run | None = None) -> int:
    """The exit code of `new`."""
    return judge((old or run()).values(), new.values(), rules_of(rules, None, Path("/nowhere"))).code


def test_each_metric_is_judged_in_its_own_direction() -> None:
    """More broken inputs are worse, although the number is higher; so are more seconds."""

    def moved(name: str, by: float) -> Run:
        return each(
            lambda r: dataclasses.replace(r, after={**r.after, name: r.after[name] + by + r.case.seed / 1000})
        )(run())

    assert code_of(moved("break_rate", 0.05), "break_rate:+1pp") == 10
    assert code_of(moved("break_rate", -0.05), "break_rate:+1pp", old=moved("break_rate", 0.05)) == 0
    assert code_of(moved("accuracy", 0.05), "accuracy:-1pp") == 0
    slow = each(lambda r: dataclasses.replace(r, cost={**r.cost, "seconds": 20.0 + r.case.seed}))(run())
    assert code_of(slow, "seconds:+50%") == 10
    assert code_of(run(), "seconds:+50%", old=slow) == 0
    assert code_of(slow, "seconds:+100%") == 0


def test_a_rule_that_no_cell_can_answer_is_not_green() -> None:
    """A number that the baseline has nowhere was not compared; one that some cells have was, in these."""
    assert code_of(run(), "accuracy:-1pp", "pgd_accuracy:-1pp") == 11
    assert code_of(run(), "accuracy:-1pp", "pgd_accuracy:off") == 0
    verdict = judge(
        run().values(), run().values(), rules_of(["accuracy:-1pp", "top5:-1pp"], None, Path("/nowhere"))
    )
    assert {f.why for f in verdict.of("not comparable")} == {"no cell of the baseline has top5"}
    here = each(lambda r: dataclasses.replace(r, after={**r.after, "top5": 0.9}))(run())
    assert code_of(here, "accuracy:-1pp", "top5:-1pp", old=here) == 0


@pytest.mark.parametrize(
    "rule", ["memit/accuracy:-1pp", "dl_2/seconds:+50%", "dl2/top5:-1pp", "mem*/top5:-1%"]
)
def test_a_rule_for_a_method_that_has_no_such_number_is_not_green(rule: str) -> None:
    """The method is in no cell of the baseline (a typing error, too), or its cells lack the number, which
    others have; the finding names the rule. A later `off` takes it back.
    """
    here = each(lambda r: dataclasses.replace(r, after={**r.after, "top5": 0.9}), "noop")(run())
    assert code_of(here, "accuracy:-1pp", rule, old=here) == 11
    assert code_of(here, "accuracy:-1pp", rule, rule.partition(":")[0] + ":off", old=here) == 0
    found = judge(here.values(), here.values(), rules_of(["accuracy:-1pp", rule], None, Path("/nowhere")))
    assert sentences(found) == [f"Not comparable: no cell of the baseline has {rule.partition(':')[0]}."]
    gone = each(lambda _: None)(run())
    assert code_of(gone, "noop/accuracy:-1pp", "dl2/accuracy:-1pp", "dl2/missing:off") == 0


def test_rules_are_for_methods_and_later_ones_come_first() -> None:
    """`dl2/accuracy:off` takes a method out; a pattern takes several; an absolute and a relative
    rule both hold.
    """
    worse = each(scored(-24))(run())
    assert code_of(worse, "accuracy:-1pp") == 10
    assert code_of(worse, "accuracy:-1pp", "dl2/accuracy:-8pp") == 0
    assert code_of(worse, "accuracy:-1pp", "d*/accuracy:off") == 0
    assert code_of(worse, "accuracy:-8pp", "accuracy:-1%") == 10
    assert code_of(worse, "accuracy:off", "dl2/accuracy:-1%") == 10
    assert code_of(worse, "accuracy:-1%", "accuracy:-1pp", "dl2/accuracy:off") == 0
    gone = each(lambda _: None)(run())
    assert code_of(gone, "accuracy:-1pp", "dl2/missing:off") == 0
    assert code_of(gone, "accuracy:-1pp", "noop/missing:off") == 10
    assert code_of({}, "accuracy:-1pp", "missing:off") == 11


def test_a_variant_is_named_with_its_brackets() -> None:
    """They are no pattern of letters."""
    named = {k.replace("-dl2-", "-dl2[tuned]-"): r for k, r in run().items()}
    old = {
        k: dataclasses.replace(r, case=dataclasses.replace(r.case, method="dl2[tuned]")) if "[" in k else r
        for k, r in named.items()
    }
    new = {k: scored(-24)(r) if "[" in k else r for k, r in old.items()}
    assert code_of(new, "accuracy:-1pp", "dl2[tuned]/accuracy:-9pp", old=old) == 0
    assert code_of(new, "accuracy:-1pp", "dl2/accuracy:-9pp", old=old) == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy", "METRIC:-0.5pp"),
        ("accuracy:", "METRIC:-0.5pp"),
        ("accuracy:much", "METRIC:-0.5pp"),
        ("accuracy:-nan", "METRIC:-0.5pp"),
        ("accuracy:-1e3pp", "METRIC:-0.5pp"),
        ("accuracy:+1pp", "higher is better); accepted: accuracy:-1pp"),
        ("break_rate:-1pp", "lower is better); accepted: break_rate:+1pp"),
        ("acuracy:-1pp", "did you mean 'accuracy'"),
        ("close_pairs:-1pp", "unknown metric of a rule 'close_pairs'"),
        ("seconds:+5pp", "seconds is not a share"),
        ("missing:-1pp", "accepted: missing:off"),
        ("accuracy:-off", "is not a rule"),
        ("", "is not a rule"),
    ],
)
def test_a_bad_rule_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows the text and what would be accepted; exit code 2."""
    old = written(tmp_path / "old", run(1))
    assert main(["compare", str(old), str(old), f"--fail-if={text}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "pyproject.toml",
            '[tool.airepair]\nfail_if = ["accuracy:-8pp", "noop/accuracy:-1pp"]\nlevel = 0.9\n',
        ),
        (
            "pytest.ini",
            "[pytest]\n[airepair]\nfail_if =\n  accuracy:-8pp\n  noop/accuracy:-1pp\nlevel = 0.9\n",
        ),
    ],
)
def test_rules_may_stand_in_the_projects_configuration(tmp_path: Path, name: str, text: str) -> None:
    """What the command line says comes first."""
    (tmp_path / name).write_text(text)
    found = rules_of([], None, tmp_path)
    assert [r.amount for r in found.rules] == [8.0, 1.0]
    assert found.level == 0.9
    assert rules_of(["accuracy:-2pp"], 0.99, tmp_path).rules == (parse("accuracy:-2pp"),)
    assert rules_of([], None, tmp_path / "elsewhere").rules == tuple(map(parse, RULES))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pyproject.toml", '[tool.airepair]\nfail-if = ["accuracy:-8pp"]', "did you mean 'fail_if'"),
        ("pyproject.toml", "[tool.airepair]\nlevel = 95", "level is 95; accepted: a number"),
        ("pyproject.toml", '[tool.airepair]\nfail_if = "accuracy:-8pp"', "accepted: a list of text"),
        ("pytest.ini", "[airepair]\nlevel = high", "level is 'high'"),
        ("pytest.ini", "[airepair", "cannot be read"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    """File, field, value."""
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        rules_of([], None, tmp_path)
    assert name in str(error.value)
    assert said in str(error.value)


def test_the_interval_of_five_seeds_is_their_range() -> None:
    """At .95 only the pattern of signs that was found may be as large: the least of five is the bound.

    Four seeds have none.
    """
    values = np.array([-1.0, 0.5, 2.0, 3.0, 4.0])
    assert inverted(values, 0.05) == pytest.approx((-1.0, 4.0))
    assert inverted(values[:4], 0.05) == (-math.inf, math.inf)
    low, high = inverted(np.concatenate([values] * 3), 0.05)
    assert -1.0 < low < values.mean() < high < 4.0


def test_a_decision_has_the_larger_p_of_images_and_seeds() -> None:
    """Seeds that agree do not outweigh few images, many images do not outweigh seeds that disagree."""
    generator = np.random.default_rng(0)

    def pairs(n: int, losses: list[int]) -> list[Pair]:
        found = []
        for lost in losses:
            old = np.ones(n, bool)
            new = old.copy()
            new[generator.permutation(n)[:lost]] = False
            found.append(Pair(new, old, np.arange(n)))
        return found

    few = change([100.0] * 5, [95.0] * 5, 0.95, pairs(20, [1] * 5))
    assert few.verdict(4.0, "higher") == "undecided"
    assert change([100.0] * 5, [95.0] * 5, 0.95).verdict(4.0, "higher") == "regressed"
    losses = [0, 0, 0, 0, 2000]
    many = change([100.0] * 5, [100 - x / 40 for x in losses], 0.95, pairs(4000, losses))
    assert many.verdict(4.0, "higher") == "undecided"


def test_no_test_image_that_changed_sides_is_nothing_to_be_unsure_of() -> None:
    """Also of one seed; without the images one seed decides nothing."""
    right = np.arange(30) % 3 > 0
    same = [Pair(right, right, np.arange(30))]
    assert change([66.7], [66.7], 0.95, same).verdict(0.0, "higher") == "fine"
    assert change([66.7], [66.7], 0.95).verdict(0.0, "higher") == "undecided"


def test_equal_weights_do_not_hide_a_number_that_changed() -> None:
    """A metric that is computed otherwise now is judged like any other."""
    moved = each(
        lambda r: dataclasses.replace(r, after={**r.after, "constraint": r.after["constraint"] - 0.1})
    )(run())
    assert code_of(moved, "constraint:-1pp") == 10
    assert code_of(run(), "constraint:-1pp") == 0


def test_a_change_of_source_is_what_the_gate_is_for() -> None:
    """Code and weights of the subject may differ; so may an option that only one of the two has,
    unless it was given.
    """

    def printed(**parts: Any) -> Callable[[Run], Run]:
        return each(lambda r: dataclasses.replace(r, fingerprint={"method": "dl2", **parts}))

    old = printed(source="a", options={"weight": 5}, given={"weight": 5})(run())
    assert (
        code_of(printed(source="b", options={"weight": 5, "later": 1}, given={"weight": 5})(run()), old=old)
        == 0
    )
    assert (
        code_of(
            printed(source="b", options={"weight": 5, "later": 1}, given={"weight": 5, "later": 1})(run()),
            old=old,
        )
        == 11
    )


def test_a_cell_that_was_run_again_is_compared_with_what_it_can_be(tmp_path: Path) -> None:
    """Two standing records of one cell, with options 50 and 5: the one of the baseline's options is taken."""
    both = [*run().values(), *each(options(50))(run()).values()]
    rules = rules_of([], None, tmp_path)
    assert judge(run().values(), both, rules).code == 0
    assert judge(both, run().values(), rules).code == 0


@pytest.mark.parametrize("status", ["failed", "unsupported"])
def test_a_record_of_superseded_code_does_not_stand_in_for_the_current_one(status: Any) -> None:
    """The method changed, and a resumed run of its cells did not repair: they are missing, although the
    records of before are there. Run again with the code of before, which finished, they are not.
    """

    def of_source(source: str) -> Callable[[Record], Record]:
        return lambda r: dataclasses.replace(r, fingerprint={"method": "dl2", "source": source * 64})

    old, broken = each(of_source("a"))(run()), each(of_source("b"))(run())
    broken = each(lambda r: dataclasses.replace(r, status=status, reason="no layer", after={}))(broken)
    rules = rules_of([], None, Path("/nowhere"))
    found = judge(old.values(), [*old.values(), *broken.values()], rules)
    assert found.code == 10
    assert sentences(found)[0].startswith(f"Missing: digits-cnn-dl2: seed 0 was not repaired: {status}")
    assert judge(old.values(), [*broken.values(), *old.values()], rules).code == 0
    assert judge(old.values(), [*old.values(), *broken.values(), *old.values()], rules).code == 0
    heavier = each(options(50))(run())
    assert judge(old.values(), [*old.values(), *heavier.values(), *broken.values()], rules).code == 10


def test_what_the_machines_read(tmp_path: Path) -> None:
    """JSON without infinities, a summary whose heading is the verdict, a badge as shields.io reads it."""
    old = written(tmp_path / "old", run(3))
    new = written(tmp_path / "new", each(scored(-24))(run(3)))
    assert main(["compare", str(old), str(new), "--out", str(tmp_path)]) == 12
    found = json.loads((tmp_path / "gate.json").read_text())
    (undecided,) = [f for f in found["findings"] if f["verdict"] == "undecided"]
    assert undecided["low"] is None
    assert undecided["n"] == 3
    assert undecided["images"] == 1200
    assert (
        (tmp_path / "gate.md")
        .read_text()
        .startswith("## Repair: Undecided; 3 cells compared; exit code 12\n")
    )
    badge = json.loads((tmp_path / "gate-badge.json").read_text())
    assert badge == {"schemaVersion": 1, "label": "repair", "message": "undecided", "color": "yellow"}


@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
def test_the_comparison_has_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """As every report."""
    old = written(tmp_path / "old", run())
    assert main(["compare", str(old), str(old), "--format", form]) == 0
    assert "dl2" in capsys.readouterr().out


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    """Wider tables are split into blocks."""
    verdict = judge(run().values(), each(scored(-24))(run()).values(), rules_of([], None, Path("/nowhere")))
    assert max(map(len, terminal(table(verdict), 80).splitlines())) <= 80


def test_records_are_appended_and_compared_as_the_suite_files_them(tmp_path: Path) -> None:
    """A file stands for the folder of a run."""
    for one in run().values():
        append(tmp_path / "baseline.jsonl", one)
    assert main(["compare", str(tmp_path / "baseline.jsonl"), str(tmp_path / "baseline.jsonl")]) == 0


def test_a_wrecked_model_is_marked_here_too() -> None:
    """Less than half of the accuracy that there was; the note says what the mark means."""
    wrecks = each(scored(-200))(run())
    text = terminal(table(judge(run().values(), wrecks.values(), rules_of([], None, Path("/nowhere")))), 200)
    assert "digits-cnn-dl2 ✗" in text
    assert "✗ The repair wrecked the model" in text
