"""Given failing inputs (`--failing`): a fifth is held out for the choice of the state, and what
came back unchanged says so.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from airepair.case import Case
from airepair.cli.repair.run import result_line
from airepair.methods import METHODS, build
from airepair.report.before_after import before_after
from airepair.report.cells import grid
from airepair.report.recommend import recommendations
from airepair.runner.outcome import UNCHANGED
from airepair.subjects.user_model.held_out import divided
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.training.best_state import Best, Choice, choice_of, chooses, snapshot
from airepair.types import Category, Split, Task


def images(n: int, classes: int = 4) -> Split:
    return Split(
        torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(9)), torch.arange(n) % classes
    )


@pytest.mark.parametrize(("n", "held"), [(4, 0), (5, 1), (9, 1), (400, 80)])
def test_a_fifth_is_held_out_from_five_on(n: int, held: int) -> None:
    """Disjoint, and together what was given."""
    given = images(n)
    learned, aside = divided(given, 0)
    assert (len(learned), 0 if aside is None else len(aside)) == (n - held, held)
    parts = [learned.x] if aside is None else [learned.x, aside.x]
    assert {x.numpy().tobytes() for part in parts for x in part} == {x.numpy().tobytes() for x in given.x}


def test_every_wanted_label_has_its_share_and_the_seed_draws() -> None:
    """Stratified; the same for one seed, another for the next."""
    first, again, other = (divided(images(400), seed)[1] for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.y.bincount().tolist() == [20] * 4
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)


class Answer(nn.Module):
    """Answers every image with one class, which is its only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([9.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), 2)


def labelled(zeros: int, ones: int) -> Split:
    return Split(torch.zeros(zeros + ones, 1, 1, 1), torch.tensor([0] * zeros + [1] * ones))


@pytest.mark.parametrize(
    ("held", "wins"), [(None, "the start"), (labelled(0, 5), "the other"), (labelled(4, 1), "the start")]
)
def test_a_state_that_repairs_what_is_held_out_may_cost_validation(held: Split | None, wins: str) -> None:
    """The start is right on 6 of 10 validation images, the other state on 4, but on the held-out
    inputs; by validation alone the start wins.
    """
    module = Answer()
    best = Best(module, Choice(labelled(6, 4), held))
    start = snapshot(module)
    with torch.no_grad():
        module.logits.copy_(torch.tensor([0.0, 9.0]))
    other = snapshot(module)
    assert best.offer() == (wins == "the other")
    assert best.accuracy == 0.4
    best.restore()
    assert torch.equal(module.logits, (start if wins == "the start" else other)["logits"])


@dataclass(frozen=True)
class Asked:
    """Notes how many failing inputs it got and how many were held out; changes nothing."""

    name: ClassVar[str] = "asked"
    category: ClassVar[Category] = "retraining"
    paper: ClassVar[str] = "this test"
    sources: ClassVar[frozenset[Any]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def budget(self, task: Task) -> int:
        """0."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """The module as it is."""
        task.note(f"got {len(task.failing)}, held out {0 if task.held_out is None else len(task.held_out)}")
        assert choice_of(task).held_out is task.held_out
        return task.module


@dataclass(frozen=True)
class AskedAndChooses(Asked):
    """The same, of a method that says that it chooses among states."""

    name: ClassVar[str] = "choosing"
    chooses: ClassVar[bool] = True


@dataclass(frozen=True)
class Shifts(Asked):
    """Answers everything with class 1."""

    name: ClassVar[str] = "shifts"

    def repair(self, task: Task) -> nn.Module:
        """The module with a large bias."""
        with torch.no_grad():
            task.module[4].bias += torch.tensor([0.0, 99, 0, 0])
        return task.module


def wrong(subject: Any, n: int = 20) -> Split:
    """Images that the toy subject gets wrong: noise, wanted as the classes that it does not say."""
    x = images(n).x
    with torch.no_grad():
        return Split(x, (subject.module(x).argmax(1) + 1) % 4)


CASE = Case("toy", "mlp", "asked", 0)


def test_only_a_method_that_chooses_learns_from_less() -> None:
    """One that promises to repair all gets all; failures found on the repair split are never held out."""
    subject = toy.subject()
    records = {}
    for method in (Asked(), AskedAndChooses()):
        for failing in (wrong(subject), None):
            records[method.name, failing is not None] = run(
                prepare(CASE, subject, method, failing=failing)
            ).record
    assert "got 20, held out 0" in records["asked", True].notes
    assert "got 16, held out 4" in records["choosing", True].notes
    assert records["choosing", True].provenance["n"]["held_out"] == 4
    assert (
        "4 of the 20 given inputs are held out; states are chosen by the mean of validation accuracy and "
        "the repair rate of these" in (records["choosing", True].notes)
    )
    assert records["choosing", True].after["held_out_rate"] == 0
    for name, given in (("asked", True), ("asked", False), ("choosing", False)):
        assert "no given inputs were held out" in records[name, given].missing["held_out_rate"]
        assert records[name, given].provenance["failing"] == ("given" if given else "repair split")
    assert not any("held out;" in note for note in records["choosing", False].notes)


def test_a_repair_rate_counts_what_was_learned_from_and_what_was_not_apart() -> None:
    """Noise whose wanted label is 1 or 2: a model that says 1 repairs half of both."""
    subject = toy.subject()
    given = replace(wrong(subject, 40), y=torch.arange(40) % 2 + 1)

    @dataclass(frozen=True)
    class Both(Shifts):
        chooses: ClassVar[bool] = True

    record = run(prepare(CASE, subject, Both(), failing=given)).record
    assert record.after["repair_rate"] == 0.5
    assert record.after["held_out_rate"] == 0.5
    assert "given inputs repaired 0.5000, of those held out 0.5000" in result_line(record)
    table = before_after(grid([record]))
    assert [h.title for h in table.headings].count("held out") == 1
    assert "held out: given inputs that the method did not learn from" in " ".join(table.notes)


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        (
            AskedAndChooses(),
            True,
            "no state was better than the start by validation accuracy and held-out repair rate, averaged",
        ),
        (AskedAndChooses(), False, "no state was better than the start by validation accuracy"),
        (Asked(), True, "the method changed nothing"),
        (Shifts(), True, ""),
        (build("noop", {}), True, ""),
    ],
)
def test_a_model_that_came_back_as_it_was_is_said_in_one_line(method: Any, given: bool, said: str) -> None:
    """In the record and on the terminal; not of the control that changes nothing, and not where
    there was nothing to repair.
    """
    subject = toy.subject()
    record = run(prepare(CASE, subject, method, failing=wrong(subject) if given else None)).record
    found = [note for note in record.notes if note.startswith(UNCHANGED)]
    assert found == ([f"{UNCHANGED}: {said}"] if said else [])
    assert result_line(record).endswith(f"; {UNCHANGED}: {said}") == bool(said)


def test_advice_counts_what_is_repaired_of_the_given_inputs() -> None:
    """A method that leaves the model as it is loses against one that repairs all and costs less
    than that of validation; damage counts half.
    """
    subject = toy.subject()
    given = wrong(subject)
    given = given.select((given.y == 1).nonzero()[:, 0])
    records = [
        run(prepare(Case("toy", "mlp", m.name, 0), subject, m, failing=given)).record
        for m in (Asked(), Shifts())
    ]
    assert (records[0].after["repair_rate"], records[1].after["repair_rate"]) == (0, 1)
    sound = replace(
        records[1], after={**records[1].after, "accuracy": 0.9}
    )  # it answers one class alone: a wreck is advised nowhere
    (advice,) = recommendations(grid([records[0], sound]))
    shift = sound.subject
    gain = (100 * (shift["repaired_validation_accuracy"] - shift["validation_accuracy"]) + 100) / 2
    assert gain > 0
    assert f"toy/mlp (validation and repair of the given inputs, averaged): use shifts (+{gain:.2f}" in advice


@pytest.mark.parametrize("name", [n for n in METHODS.names() if n in METHODS.builtin])
def test_who_uses_the_choice_says_so(name: str) -> None:
    """A built-in method names `Choice` or `choice_of` if and only if it declares that it chooses;
    tools outside cannot.
    """
    kind = type(build(name, {})) if name != "tool" else None
    if kind is None:
        return
    source = inspect.getsource(importlib.import_module(kind.__module__))
    assert chooses(kind) == (re.search(r"\bchoice_of\b|\bChoice\b", source) is not None)
