"""Tuning: shared and resumable trials, the same budget for all, selection on validation, the table
that --auto reads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.cli.main import main
from airepair.cli.tuning.space import distributions, nearest, space_of
from airepair.cli.tuning.table import merged, read_rows, write_rows
from airepair.engines.command import Cells
from airepair.errors import OutOfBudget, UsageError
from airepair.methods import METHODS, build
from airepair.methods.combined import combine
from airepair.options import Space, describe, option
from airepair.records import Record, read
from airepair.runner.cell import CellSpec
from airepair.runner.events import Budget, Events
from airepair.runner.loading import Loaded, Loader
from airepair.runner.specify import Shared
from airepair.settings import choose_options, is_tuned, tables, tuned_table
from airepair.testing.cells import prepare, run
from airepair.testing.toy import subject as toy
from airepair.types import Category, Limit, Split, Task

optuna = pytest.importorskip("optuna")
from airepair.cli.tuning.study import Trials, me  # noqa: E402
from airepair.cli.tuning.trial import Bench, try_out  # noqa: E402

FACTS = {"trials": 4, "images": 1000, "seconds": None, "profile": "smoke", "seeds": [100]}


class Toys(Loader):
    """Toy subjects in place of a grid's, with their test split as `change` leaves it."""

    def __init__(self, change: Callable[[Split], Split] = lambda split: split) -> None:
        super().__init__(Path("no-cache"))
        self.change = change

    def _load(self, spec: CellSpec) -> Loaded:
        found = toy(seed=spec.case.seed)
        return Loaded(
            dataclasses.replace(
                found, dataset=dataclasses.replace(found.dataset, test=self.change(found.dataset.test))
            )
        )


def toy_bench(loader: Loader, seeds: tuple[int, ...] = (100,)) -> Bench:
    """The bench of a tuning with toy subjects."""
    shared = Shared(profile="smoke", splits="validation")
    return Bench("toy", "mlp", seeds, shared, loader, Cells(loader.cache, isolate=False))


def trials_of(folder: Path, method: str = "finetune", **facts: object) -> Trials:
    """The trials of a method in a folder, as one more process would open them."""
    space = space_of(method)
    first = {name: nearest(o.default, o) for name, o in space.items()}
    return Trials(folder, f"toy-mlp-{method}", distributions(space), first, {**FACTS, **facts}, 100)


def test_the_budget_refuses_the_batch_that_would_pass_it() -> None:
    """Counts never exceed the limit, forward passes are free, and the reason is said once."""
    said: list[str] = []
    meter = Budget(100, said.append)
    meter.add(60, training=True)
    meter.add(10_000, training=False)
    for _ in range(2):
        with pytest.raises(OutOfBudget, match="100 training images"):
            meter.add(41, training=True)
    meter.add(40, training=True)
    assert (meter.backward, meter.forward, len(said)) == (100, 10_000, 1)


@pytest.mark.parametrize("name", ["finetune", "deeprepair", "irepair", "editable"])
def test_a_method_that_runs_out_of_budget_hands_in_what_it_has(name: str) -> None:
    """Training that is cut off by the limit is a repair with a note, within the budget; the loop's
    best state is not worse than the start.
    """
    method = build(name, {"points": 8} if name == "irepair" else {})
    limit = 150 if name == "irepair" else 700
    found = run(prepare(Case("toy", "mlp", name, 0), toy(), method, limit=Limit(images=limit)))
    record = found.record
    assert record.status == "repaired", record.reason
    assert 0 < record.budget["backward"] <= limit
    assert any("budget" in note for note in record.notes)
    if name != "irepair":  # no selection on validation by design
        assert record.subject["repaired_validation_accuracy"] >= record.subject["validation_accuracy"]


def test_a_method_without_a_state_to_return_says_that_the_budget_ended_it() -> None:
    """Apricot's submodels have no validation: a budget below their training is no repair, and the
    reason names the number.
    """
    found = run(
        prepare(Case("toy", "mlp", "apricot", 0), toy(), build("apricot", {}), limit=Limit(images=50))
    )
    assert found.record.status == "timeout"
    assert "budget of 50 training images" in found.record.reason


@pytest.mark.parametrize("name", [n for n in METHODS.builtin if n not in ("noop", "lookup", "best")])
def test_every_method_with_numbers_to_choose_has_a_space(name: str) -> None:
    """At least one option of each has a range, and every range is one that Optuna and the option
    itself accept.
    """
    space = space_of(name)
    for option_name, distribution in distributions(space).items():
        assert distribution.single() is False
        inside = nearest(space[option_name].default, space[option_name])
        assert distribution._contains(distribution.to_internal_repr(inside))
        build(name, {option_name: inside})


def test_the_controls_are_tuned_in_the_same_way() -> None:
    """finetune and random have ranges of their own."""
    assert set(space_of("finetune")) >= {"lr", "batch_size"}
    assert set(space_of("random")) == {"norm"}


def test_only_the_open_options_are_searched_if_asked() -> None:
    """`--open` searches what no publication states: memit's ridge, not its margin; finetune has no
    such option.
    """
    assert set(space_of("memit", only_open=True)) == {"ridge"} < set(space_of("memit"))
    with pytest.raises(UsageError, match="open"):
        space_of("finetune", only_open=True)


@dataclass(frozen=True)
class Narrow:
    """A method whose range holds nothing."""

    name: ClassVar[str] = "narrow"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}
    rate: float = option(0.1, "a rate", low=0.0, tune=Space(0.5, 0.5))

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        return task.module


@pytest.mark.parametrize(
    ("method", "said"),
    [("noop", "it has no options"), (f"{__name__}:Narrow", "rate has an empty tuning space")],
)
def test_an_empty_space_is_one_clear_line(method: str, said: str) -> None:
    """Neither a method without ranges nor an empty range is tuned in silence."""
    with pytest.raises(UsageError, match=said):
        space_of(method)


def test_processes_share_the_trials_and_each_is_run_once(tmp_path: Path) -> None:
    """Two processes on one folder take different trials, as many in all as were asked for; the
    first is the default settings.
    """
    one, two = trials_of(tmp_path), trials_of(tmp_path)
    claims = [t.claim() for t in (one, two, one, two, one)]
    assert [c and c.number for c in claims] == [0, 1, 2, 3, None]
    assert claims[0] is not None
    middle = (1e-4 * 0.3) ** 0.5  # the default chooses a rate itself; the search has to start from a number
    assert claims[0].options == {"lr": pytest.approx(middle), "batch_size": 128, "weight_decay": 1e-4}
    assert len({json.dumps(c.options) for c in claims if c}) == 4


def test_a_stopped_run_goes_on_with_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose process died is taken over with its options, and the trials after it are those
    of a run that was never stopped.
    """

    def value(claim: object) -> float:
        return round(1 / (1 + claim.options["lr"]), 6)  # type: ignore[attr-defined]

    whole = trials_of(tmp_path / "whole")
    expected = []
    while claim := whole.claim():
        expected.append(claim)
        whole.tell(claim.number, value(claim))
    stopped = trials_of(tmp_path / "stopped")
    first = stopped.claim()
    assert first is not None
    stopped.tell(first.number, value(first))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with monkeypatch.context() as patch:
        here = me()[0]
        patch.setattr("airepair.cli.tuning.study.me", lambda: [here, ended.pid, 0.0])
        trials_of(tmp_path / "stopped").claim()
    again, found = trials_of(tmp_path / "stopped"), [first]
    while claim := again.claim():
        found.append(claim)
        again.tell(claim.number, value(claim))
    assert found == expected


def test_another_budget_is_another_folder(tmp_path: Path) -> None:
    """Trials at different budgets are not comparable: refused, with what is there.

    More trials of the same kind are welcome.
    """
    trials_of(tmp_path)
    with pytest.raises(UsageError, match="another --out"):
        trials_of(tmp_path, images=2000)
    assert trials_of(tmp_path, trials=6).most == 6


def test_equal_trials_leave_the_default_settings(tmp_path: Path) -> None:
    """The best validation accuracy wins, the earlier trial on a tie, and a failed one never."""
    trials = trials_of(tmp_path)
    for value in (0.8, None, 0.8, 0.7):
        claim = trials.claim()
        assert claim is not None
        trials.tell(claim.number, value, "" if value else "timeout: too slow")
    best = trials.best()
    assert best is not None
    assert best.number == 0
    assert trials.finished()[1].user_attrs["reason"] == "timeout: too slow"


def test_a_trial_sees_validation_and_never_test(tmp_path: Path) -> None:
    """A poisoned test split changes nothing: the records' scores are those on validation, the mean
    over the tuning seeds decides.
    """

    def poisoned(test: Split) -> Split:
        return Split(torch.full_like(test.x, float("nan")), test.y)

    clean, bad = toy_bench(Toys(), (100, 101)), toy_bench(Toys(poisoned), (100, 101))
    options = {"lr": 0.05}
    one = try_out(clean, "finetune", 3, options, tmp_path, FACTS)
    two = try_out(bad, "finetune", 3, options, tmp_path / "bad", FACTS)
    assert one.value == two.value
    assert one.value == pytest.approx(sum(r.subject["repaired_validation_accuracy"] for r in one.records) / 2)
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [
        "toy-mlp-finetune[trial3]-s100",
        "toy-mlp-finetune[trial3]-s101",
    ]
    assert lines[0]["provenance"]["tuning"]["tuned"] == options
    assert lines[0]["options"]["lr"] == {"value": 0.05, "given": True, "origin": "trial 3"}


def test_the_table_keeps_other_rows_and_gives_options_with_their_origin(tmp_path: Path) -> None:
    """A new row replaces that of the same cell, the rest stays, and what is read back is what was written."""
    path = tmp_path / "tuned.toml"
    row = {
        "dataset": "digits",
        "model": "fc",
        "method": "finetune",
        "origin": "tuned: commit 1",
        "options": {"lr": 1e-05, "batch_size": 32},
    }
    other = {**row, "method": "arachne", "options": {"search": "pso", "alpha": None}}
    write_rows(path, merged([], [row, other]))
    write_rows(path, merged(read_rows(path), [{**row, "origin": "tuned: commit 2"}]))
    assert [r["origin"] for r in read_rows(path)] == ["tuned: commit 1", "tuned: commit 2"]
    assert tomllib.loads(path.read_text())["setting"][0]["options"] == {"search": "pso"}
    chosen = choose_options("digits", "fc", "finetune", "smoke", {"epochs": 5}, (None, path))
    assert chosen.options == {"lr": 1e-05, "batch_size": 32, "epochs": 5}
    assert chosen.origins["lr"] == "tuned: commit 2"
    assert choose_options("mnist", "fc", "finetune", "smoke", {}, (path,)).options == {}


def test_a_combination_has_the_settings_of_its_steps() -> None:
    """`prdnn+dl2` gets prdnn's row and dl2's, each under the step's name, and they are options that
    it has.
    """
    chosen = choose_options("digits", "fc", "prdnn+dl2", "smoke", {})
    for step in ("prdnn", "dl2"):
        alone = choose_options("digits", "fc", step, "smoke", {})
        assert alone.options
        for name, value in alone.options.items():
            assert chosen.options[f"{step}_{name}"] == value
            assert chosen.origins[f"{step}_{name}"] == alone.origins[name]
    names = {o.name for o in describe(combine([METHODS.get("prdnn"), METHODS.get("dl2")]))}
    assert set(chosen.options) <= names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "noop"], "empty tuning space"),
        (["--method", "finetun"], "did you mean 'finetune'"),
        (["--dataset", "digit"], "did you mean 'digits'"),
        (["--trials", "0"], "--trials 0 is out of range; accepted: above 0"),
        (["--images", "-5"], "--images -5"),
        (["--seeds", "a"], "--seeds 'a'"),
        (["--isolate-output", "nan"], "--isolate-output nan is out of range; accepted: a number above 0"),
        (["--model", ""], "--model '' names nothing"),
        (["--model", "nothing"], "unknown model 'nothing'"),
        (["--model", "fc+imbalanced7"], "imbalanced.severity=7.0 is out of range"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing is trained and nothing is written."""
    assert main(["tune", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_tunes_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits from end to end: trials, a row with its origin; the same command again runs nothing
    more; --install puts the row in its place.
    """
    words = [
        "tune",
        "--model",
        "fc",
        "--method",
        "random",
        "--trials",
        "3",
        "--seeds",
        "100",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "trial 0 of 0..2" in out
    assert "default settings" in out
    (row,) = read_rows(tmp_path / "tuned.toml")
    assert (row["dataset"], row["model"], row["method"]) == ("digits", "fc", "random")
    assert re.search(r"3 trials of \d{2,3},\d{3} images, seeds 100", row["origin"])
    assert 1e-3 <= row["options"]["norm"] <= 1
    assert main(words) == 0
    assert "trial" not in capsys.readouterr().out.replace("trials", "")
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 3
    monkeypatch.setattr("airepair.settings.tuned_table", lambda: tmp_path / "package.toml")
    monkeypatch.setattr("airepair.cli.commands.tune.tuned_table", lambda: tmp_path / "package.toml")
    assert main([*words, "--install"]) == 0
    assert read_rows(tmp_path / "package.toml") == [row]


def test_a_method_that_is_unsupported_there_has_no_row_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trials are said to be unsupported, with the reason; the run as a whole is sound."""
    assert (
        main(["tune", "--model", "fc", "--method", "deepcorrect", "--trials", "2", "--out", str(tmp_path)])
        == 0
    )
    assert "digits-fc-deepcorrect: no trial was repaired (unsupported: " in capsys.readouterr().out
    assert not (tmp_path / "tuned.toml").exists()


@dataclass(frozen=True)
class Dies(Narrow):
    """A method that ends its process unless it has its default rate."""

    name: ClassVar[str] = "dies"
    rate: float = option(0.1, "a rate", low=0.0, tune=Space(0.2, 0.5))

    def repair(self, task: Task) -> nn.Module:
        if self.rate != 0.1:
            os._exit(3)
        return task.module


def test_a_trial_of_a_plug_in_that_ends_its_process_is_a_failed_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tuning goes on, and the default settings are the best of those that ran."""
    words = ["--model", "fc", "--method", f"{__name__}:Dies", "--trials", "2", "--seeds", "100"]
    assert main(["tune", *words, "--images", "100", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "crashed: its process ended with exit code 3 before it had a result" in said
    assert [r.status for r in read([tmp_path / "trials.jsonl"])[0]] == ["repaired", "crashed"]
    (row,) = read_rows(tmp_path / "tuned.toml")
    assert row["options"] == {"rate": 0.1}


def test_no_limit_is_no_budget() -> None:
    """Without a limit the meter only counts."""
    meter = Events(Limit(), lambda *_: None).meter
    meter.add(10**9, training=True)
    assert meter.backward == 10**9


def test_the_packaged_table_is_what_auto_reads() -> None:
    """Every row names a method and options that exist, and its origin says commit, device, n and
    seeds other than the grid's.
    """
    rows = read_rows(tuned_table())
    assert rows
    for row in rows:
        chosen = choose_options(row["dataset"], row["model"], row["method"], "smoke", {}, tables(auto=True))
        build(row["method"], chosen.options)
        if not row["options"]:  # no option has a value: there is nothing to show beside the default row
            assert "the default settings won" in row["origin"]
            continue
        assert set(chosen.origins.values()) >= {row["origin"]}
        assert all(word in row["origin"] for word in ("tuned: commit", "trials of", "images, seeds 100"))
        assert is_tuned(row["dataset"], row["model"], row["method"], "smoke")
    assert {"finetune", "random"} <= {row["method"] for row in rows}
    assert tables(auto=False) == (None,)


def test_the_packaged_table_is_what_the_committed_trials_say() -> None:
    """Each row of a network rests on as many trials as any other, all with one budget, and has the
    options of the one that is best on validation.
    """
    file = Path(__file__).parents[3] / "reports" / "tuning" / "digits" / "trials.jsonl"
    records = read([file])[0]
    asked = {
        (r.case.model, r.provenance["tuning"]["trials"], r.provenance["tuning"]["images"]) for r in records
    }
    assert len(asked) == len({model for model, *_ in asked})
    assert not any(
        r.provenance["dirty"] or r.case.seed < 100 or r.provenance["benchmark_version"] != BENCHMARK_VERSION
        for r in records
    )
    assert all(r.budget.get("backward", 0) <= r.provenance["tuning"]["images"] for r in records)
    for row in read_rows(tuned_table()):
        place = (row["dataset"], row["model"], row["method"])
        trials: dict[int, list[Record]] = {}
        for r in records:
            if (r.case.dataset, r.case.model, r.case.base_method) == place:
                trials.setdefault(r.provenance["tuning"]["trial"], []).append(r)
        first = trials[0][0].provenance
        many, images = first["tuning"]["trials"], first["tuning"]["images"]
        assert sorted(trials) == list(range(many)), place
        seeds = ", ".join(map(str, first["tuning"]["seeds"]))
        assert (
            f"{first['commit'][:7]}, {first['device']}, {many} trials of {images:,} images, seeds {seeds}"
            in row["origin"]
        ), place
        means = {
            k: fmean(r.after["accuracy"] for r in t)
            for k, t in trials.items()
            if all(r.status == "repaired" for r in t)
        }
        best = trials[max(means, key=lambda k: (means[k], -k))][0]
        assert {k: best.options[k]["value"] for k in row["options"]} == row["options"], place
