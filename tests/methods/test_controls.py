"""The controls: the same sources as the method, as many images, a learning rate that validation chose."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from airepair.case import SOURCES, Case, control_on
from airepair.corruptions import parse
from airepair.errors import UsageError
from airepair.evaluation.exam import logits_of
from airepair.methods import METHODS, build
from airepair.methods.finetune import Finetune
from airepair.methods.information import present, restricted
from airepair.methods.interpolate import Interpolate, between
from airepair.options import option
from airepair.records import Record
from airepair.runner.cell import CellSpec
from airepair.runner.column_budget import column_budget
from airepair.runner.outcome import Outcome
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.testing.trial import attempt
from airepair.training.best_state import snapshot
from airepair.training.fine_tuning import RATES, FineTuning, chosen, fresh, taught
from airepair.types import Category, Limit, Method, Recipe, Split, Subject, Task

QUICK = {"epochs": 16, "lr": 0.05}


def cell(method: str, options: dict[str, Any], subject: Subject | None = None) -> Outcome:
    """A cell of the toy column."""
    return run(
        prepare(
            Case("toy", "mlp", method, 0), subject or toy.subject(), build(method.partition("[")[0], options)
        )
    )


@dataclass(frozen=True)
class Curious:
    """Notes what it was given."""

    name: ClassVar[str] = "curious"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "made for this test"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}
    wants: tuple[str, ...] = option((), "sources")

    @property
    def sources(self) -> frozenset[str]:
        """What the test says."""
        return frozenset(self.wants)

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        found = {name: getattr(task, name) for name in SOURCES}
        task.note(
            "given: "
            + " ".join(k for k, v in found.items() if v is not None and (k == "environment" or len(v)))
        )
        assert len(task.validation)
        return task.module


@pytest.mark.parametrize(
    "wanted", [(), ("failing",), ("train", "pool"), ("passing", "unlabelled", "environment"), SOURCES]
)
def test_the_harness_hands_over_what_is_stated_and_nothing_else(wanted: tuple[str, ...]) -> None:
    """Also where the subject has a pool and an environment; the record says what was there."""
    subject = replace(toy.subject(), pool=toy.images(20, 9), environment=parse("fog3"))
    record = cell(f"{__name__}:Curious", {"wants": wanted}, subject).record
    assert record.status == "repaired", record.reason
    (given,) = [n.removeprefix("given: ") for n in record.notes if n.startswith("given: ")]
    assert given.split() == [s for s in SOURCES if s in wanted]
    assert record.sources == tuple(s for s in SOURCES if s in wanted)
    assert Record.from_json(record.to_json()).sources == record.sources


def test_sources_that_a_subject_lacks_are_not_in_the_record() -> None:
    """A method that would use a pool is compared with plain fine-tuning where there is none."""
    assert cell("mode", {"rounds": 1, "epochs": 1}).record.sources == ("train", "failing")
    task = replace(toy.task(), pool=toy.images(4, 9))
    assert present(task, {"train", "failing", "pool"}) == ("train", "failing", "pool")
    assert present(restricted(task, ()), SOURCES) == ()


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (("train", "failing"), "finetune"),
        (("failing",), "finetune"),
        ((), "finetune"),
        (("passing", "failing"), "finetune[failing+passing]"),
        (("unlabelled", "train", "failing"), "finetune[failing+train+unlabelled]"),
    ],
)
def test_each_set_of_sources_has_its_control(sources: tuple[str, ...], name: str) -> None:
    """Sorted, so that one set has one name."""
    assert control_on(sources) == name


def test_a_control_learns_answers_that_are_to_stay_and_its_own_predictions() -> None:
    """Passing images with the subject's answers, unlabelled ones with its predictions, a failing
    image only with its label.
    """
    task = toy.task()
    own = logits_of(task.module, task.unlabelled).argmax(1)
    data = taught(restricted(task, ("failing", "unlabelled")))
    assert len(data) == len(task.unlabelled)
    assert torch.equal(data.y[: len(task.failing)], task.failing.y)
    rest = fresh(restricted(task, ("failing", "unlabelled")))
    assert len(rest) == len(task.passing)
    assert torch.equal(data.y[len(task.failing) :], logits_of(task.module, rest).argmax(1))
    kept = taught(restricted(task, ("failing", "passing")))
    assert torch.equal(kept.y[len(task.failing) :], task.passing.y)
    alone = taught(restricted(task, ("unlabelled",)))
    assert torch.equal(alone.y, own)


def test_an_environment_shows_the_training_images_twice() -> None:
    """As they are, and as they look there, with the same labels."""
    task = replace(toy.task(), environment=parse("fog3"))
    data = taught(restricted(task, ("train", "failing", "environment")))
    n = len(task.train)
    assert len(data) == 2 * n + len(task.failing)
    assert torch.equal(data.y[:n], data.y[-n:])
    assert not torch.equal(data.images()[:n], data.images()[-n:])


def test_states_are_kept_at_halves_of_the_budget() -> None:
    """From 1/1024 on, each within a batch of its share; so a cheaper method finds one of at least
    half of its images.
    """
    record = cell("finetune", QUICK | {"batch_size": 8}).record
    budget = record.budget["backward"]
    counts = [p.images for p in record.phases]
    assert counts == sorted(set(counts))
    assert record.phases[-1].name == "1/2 of the budget"
    for phase in record.phases:
        share = budget / int(phase.name.partition("/")[2].split()[0])
        assert share <= phase.images < share + 8
    for images in range(counts[0], budget):
        assert images <= 2 * max(c for c in (*counts, budget) if c <= images) + 16


def test_a_kept_state_is_the_best_so_far() -> None:
    """On validation, the start included: no later state is worse there."""
    record = cell("finetune", QUICK).record
    accuracies = [p.scores["validation_accuracy"] for p in record.phases]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] >= record.subject["validation_accuracy"]


def test_the_learning_rate_is_the_best_of_five_on_validation() -> None:
    """Each tried on an eighth of the passes; the images are counted apart, and the record says how
    each did.
    """
    subject = toy.subject()
    record = cell("finetune", {"epochs": 16}, subject).record
    labelled = len(subject.dataset.train) + record.provenance["n"]["failing"]
    assert record.budget["backward"] == 16 * labelled
    assert record.budget["selection"] == 5 * 2 * labelled
    note = next(n for n in record.notes if n.startswith("learning rate"))
    tried = dict(part.split(": ") for part in note.partition("(")[2].rstrip(" %)").split(", "))
    assert [float(rate) for rate in tried] == list(RATES)
    chosen = note.split()[2].rstrip(",")
    assert float(tried[chosen]) == max(map(float, tried.values()))
    alone = cell("finetune", {"epochs": 16, "lr": chosen}, subject)
    assert alone.record.subject["repaired_weights"] == record.subject["repaired_weights"]
    assert "selection" not in alone.record.budget


def test_a_trial_is_an_eighth_of_a_budget_of_few_passes() -> None:
    """Of two passes an eighth is a quarter of one: each rate is tried on a quarter of the images."""
    subject = toy.subject()
    record = cell("finetune", {"epochs": 2}, subject).record
    labelled = len(subject.dataset.train) + record.provenance["n"]["failing"]
    assert record.budget["backward"] == 2 * labelled
    assert record.budget["selection"] == 5 * (labelled // 4)
    assert any("after an eighth of 2 epochs" in note for note in record.notes)


def test_as_a_step_of_a_combination_every_image_counts() -> None:
    """There fine-tuning is part of the method, and so is what it tries out."""
    both = attempt(build("finetune+random", {"finetune_epochs": 8}), toy.task())
    labelled = len(both.task.train) + len(both.task.failing)
    assert both.task.meter.backward == (8 + 5) * labelled
    assert both.task.meter.selection == 0
    assert build("finetune+random", {"finetune_epochs": 8}).budget(both.task) >= both.task.meter.backward


def test_the_control_trains_to_the_largest_declared_budget() -> None:
    """Of the methods that the column runs by default, with the options of the table of settings; as
    many passes as fit into it.
    """
    subject = toy.subject()
    ready = prepare(Case("toy", "mlp", "finetune", 0), subject, build("finetune", {}))
    notes: list[str] = []
    task = replace(toy.task(), note=notes.append)
    largest = column_budget(task, ready.spec, ready.method)
    budgets = {}
    for name in METHODS.builtin:
        method: Method = build(name, {})
        if method.category != "control" and name not in ("best", "deepcorrect", "deeprepair_style"):
            budgets[name] = method.budget(restricted(task, method.sources))
    assert largest == max(budgets.values())
    assert f"{largest:,} images ({max(budgets, key=lambda n: budgets[n])})" in notes[-1]
    passes = FineTuning(0.1, 128, None, 0.0).passes(replace(task, column_budget=largest), len(task.labelled))
    assert passes * len(task.labelled) <= largest < (passes + 1) * len(task.labelled)


def test_a_control_of_other_sources_trains_as_long_as_its_methods() -> None:
    """`finetune[failing+passing]` stands beside irepair and the like, which use less than the
    column's largest.
    """
    task = toy.task()
    spec = CellSpec(Case("toy", "mlp", "finetune", 0), "none")
    own = column_budget(task, spec, build("finetune", {"learn_from": "failing,passing"}))
    irepair: Method = build("irepair", {})
    assert own == irepair.budget(restricted(task, irepair.sources))
    assert own < column_budget(task, spec, build("finetune", {}))


def test_a_column_of_a_brought_file_has_the_settings_of_its_architecture() -> None:
    """The largest budget is that of the cells beside it, which get the rows of `fc`, whatever the
    file is called; and of the data set's own name, whatever the case calls it.
    """
    task, control = toy.task(), build("finetune", {})
    named = CellSpec(Case("digits", "fc", "finetune", 0), "smoke")
    brought = CellSpec(Case("digits", "my_net", "finetune", 0), "smoke", architecture="fc")
    short = CellSpec(Case("short", "my_net", "finetune", 0), "smoke", dataset="digits", architecture="fc")
    budgets = [column_budget(task, spec, control) for spec in (named, brought, short)]
    assert len(set(budgets)) == 1
    assert column_budget(task, replace(brought, architecture=""), control) != budgets[0]


def test_a_control_s_record_does_not_depend_on_what_was_asked_for_elsewhere() -> None:
    """Its budget comes from the table of settings, so another method's `--set` changes nothing."""
    one, two = (cell("finetune", {"epochs": 3, "lr": 0.05}).record for _ in range(2))
    assert (one.after, one.phases[0].images, one.subject["repaired_weights"]) == (
        two.after,
        two.phases[0].images,
        two.subject["repaired_weights"],
    )


@dataclass(frozen=True)
class Unsure(Curious):
    """Another package's method whose budget fails."""

    category: ClassVar[Category] = "retraining"

    def budget(self, task: Task) -> int:
        raise RuntimeError("a fault of its own")


def test_a_method_that_cannot_say_its_budget_costs_its_own_cell_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control goes on and says so; the method's own cell fails with the reason."""
    monkeypatch.setattr(METHODS, "builtin", {**METHODS.builtin, "unsure": f"{__name__}:Unsure"})
    record = cell("finetune", {"epochs": 1, "lr": 0.1}).record
    assert record.status == "repaired"
    assert any(
        n.startswith("unsure could not say its budget: RuntimeError: a fault of its own")
        for n in record.notes
    )
    assert cell("unsure", {}).record.status == "failed"


def test_more_than_the_declared_budget_is_noted() -> None:
    """A wrong declaration shows in the record."""
    record = cell(f"{__name__}:Boastful", {}).record
    assert record.budget["declared"] == 1
    assert any("had declared 1 at most" in n for n in record.notes)


@dataclass(frozen=True)
class Boastful(Finetune):
    """Fine-tuning that declares one image."""

    epochs: int | None = option(1, "passes")
    lr: float | None = option(0.01, "rate")

    def budget(self, task: Task) -> int:
        return 1


def test_a_control_without_failing_inputs_among_its_sources_is_refused() -> None:
    """There would be nothing to repair."""
    with pytest.raises(UsageError, match="lacks failing"):
        build("finetune", {"learn_from": "train"})


def test_interpolation_ends_at_the_subject_and_at_the_fine_tuned_network() -> None:
    """The line's ends are exact; integer buffers stay."""
    task = toy.task()
    start = snapshot(task.module)
    other = {k: v + 1 if v.is_floating_point() else v + 7 for k, v in start.items()}
    assert all(torch.equal(v, start[k]) for k, v in between(start, other, 0.0).items())
    assert all(
        torch.equal(v, other[k]) for k, v in between(start, other, 1.0).items() if v.is_floating_point()
    )
    assert torch.equal(between(start, other, 1.0)["2.num_batches_tracked"], start["2.num_batches_tracked"])


def test_interpolation_takes_the_share_that_is_best_on_validation() -> None:
    """Every point of the line is tried, by hand here; ties go to the lower loss."""
    task = toy.task()
    trial = attempt(Interpolate(epochs=8, lr=0.2, steps=4), task)
    whole = attempt(Finetune(epochs=8, lr=0.2), task)
    assert trial.task.meter.backward == whole.task.meter.backward
    start, end = snapshot(task.module), _last_state(task)
    standings = {}
    for number in range(5):
        module = copy.deepcopy(task.module)
        module.load_state_dict(between(start, end, number / 4))
        standings[number / 4] = _standing(module, task.validation)
    best = max(standings, key=lambda share: standings[share])
    assert trial.diary.notes[-1].startswith(f"{100 * best:g} % of the way")
    assert _standing(trial.module, task.validation) == standings[best]


def _last_state(task: Task) -> dict[str, Tensor]:
    """Where eight passes of fine-tuning end, no state chosen."""
    from airepair.training.fine_tuning import train

    own = replace(restricted(task, ("train", "failing")), module=copy.deepcopy(task.module))
    train(own, FineTuning(0.2, 128, 8, 1e-4), None)
    return snapshot(own.module)


def _standing(module: nn.Module, validation: Split) -> tuple[float, float]:
    from airepair.evaluation.exam import sit

    exam = sit(module, validation)
    return exam.accuracy, -exam.loss


def test_a_method_that_cannot_be_imported_does_not_hide_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own cells report it; the control trains to the largest budget of the others, as before."""
    task, spec, control = (
        toy.task(),
        CellSpec(Case("toy", "mlp", "finetune", 0), "none"),
        build("finetune", {}),
    )
    before = column_budget(task, spec, control)
    monkeypatch.setattr(METHODS, "builtin", {"absent": "no_such_package:Absent", **METHODS.builtin})
    assert column_budget(task, spec, control) == before > 0


def test_passes_fit_into_the_budget_and_the_limit() -> None:
    """The smaller of the column's budget and the task's limit decides, and one pass is the least."""
    task, training = replace(toy.task(), column_budget=1000), FineTuning(0.1, 8, None, 0.0)
    assert training.passes(task, 100) == 10
    assert training.passes(replace(task, limit=Limit(images=300)), 100) == 3
    assert training.passes(replace(task, limit=Limit(images=3000)), 100) == 10
    assert training.passes(replace(task, limit=Limit(images=50)), 100) == 1


def test_each_rate_that_was_tried_is_told() -> None:
    """The first of the rates is number one, the last is as many as there are."""
    told: list[tuple[int, int]] = []
    task = replace(toy.task(), progress=lambda _phase, step, of, _loss: told.append((step, of)))
    recipe = Recipe(lr=0.0, epochs=1, batch_size=32)
    assert chosen(task, task.train, recipe, None).lr in RATES
    assert told == [(number, len(RATES)) for number in range(1, len(RATES) + 1)]
