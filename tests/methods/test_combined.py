"""Combined repair: one method after the other, and the pick of the best."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import sit
from airepair.methods import METHODS, build
from airepair.methods.best import Best, standing
from airepair.methods.handover import continued, later_budget
from airepair.methods.lookup import Table
from airepair.options import describe, option
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.testing.trial import attempt
from airepair.types import Category, Task, metered

QUICK = {"finetune_epochs": 2}


class TestCombination(MethodConformance):
    method = METHODS.get("finetune+random")
    options = QUICK


@dataclass(frozen=True)
class Shaking:
    """A direct modification that helps or harms as `norm` says, found by best as `MODULE:Shaking`."""

    name: ClassVar[str] = "shaking"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "made for this test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {"half": {"norm": 0.005}}

    norm: float = option(0.01, "size of the change", low=0.0)

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        return build("random", {"norm": self.norm}).repair(task)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_the_second_step_starts_from_the_first_ones_result():
    """finetune+random is random applied to what finetune leaves."""
    task = toy.task()
    both = attempt(build("finetune+random", QUICK), task)
    first = attempt(build("finetune", {"epochs": 2}), task)
    second = attempt(build("random", {}), continued(first.task, first.module, "random"))
    assert same(both.module, second.module)
    assert not same(both.module, first.module)


def test_a_step_that_wraps_the_module_hands_the_wrapper_on():
    """lookup puts a table in front; what follows starts from that, finds nothing failing, and returns it."""
    task = toy.task()
    both = attempt(build("lookup+random", {}), task)
    assert isinstance(both.module, Table)
    assert bool(sit(both.module, task.failing).right.all())


def test_what_fails_is_asked_anew_over_the_same_repair_split():
    """Failing and passing of the next step are the first result's own, and together the same images."""
    task = toy.task()
    repaired = attempt(build("finetune", {"epochs": 20, "lr": 0.05}), task).module
    following = continued(task, repaired, "next")
    assert len(following.failing) + len(following.passing) == len(task.failing) + len(task.passing)
    assert len(following.failing) != len(task.failing)
    assert not bool(sit(repaired, following.failing).right.any())
    assert bool(sit(repaired, following.passing).right.all())


def test_costs_add_up():
    """A combination counts as many training images as its steps do."""
    task = toy.task()
    one = attempt(build("finetune", {"epochs": 2}), task).task.meter.backward
    both = attempt(build("finetune+random", QUICK), task).task.meter.backward
    assert one > 0
    assert both == one


def test_the_meter_stays_on_the_root_once():
    """A step that wraps the module neither hides it from the meter nor counts it twice."""
    trial = attempt(build("noop", {}), toy.task())
    before = trial.task.meter.forward
    wrapped = metered(torch.nn.Sequential(trial.module), trial.task.meter)
    with torch.no_grad():
        wrapped(trial.task.validation.images())
    assert trial.task.meter.forward - before == len(trial.task.validation)


def test_each_step_is_reported_under_its_name():
    """Progress and kept states say which step they belong to."""
    trial = attempt(build("finetune+random", QUICK), toy.task())
    assert {phase for phase, *_ in trial.diary.progress} == {
        "finetune: fine-tuning",
        "finetune: choosing the learning rate",
    }
    assert [phase for phase, _ in trial.diary.kept][-1] == "after finetune"


def test_options_of_each_step_are_options_of_the_combination():
    """`<method>_<option>`, with the step's own default, type and range."""
    options = {o.name: o for o in describe(METHODS.get("finetune+random"))}
    assert options["finetune_batch_size"].default == 128
    assert build("finetune+random", {"random_norm": "0.5"}).random_norm == 0.5
    with pytest.raises(UsageError, match="out of range"):
        build("finetune+random", {"random_norm": -1})


@pytest.mark.parametrize(
    ("name", "said"),
    [("finetune+nothing", "unknown method 'nothing'"), ("finetune+finetune", "different methods")],
)
def test_a_bad_combination_is_refused(name: str, said: str):
    """One line, naming the part."""
    with pytest.raises(UsageError, match=said):
        METHODS.get(name)


def test_a_refusing_step_names_itself():
    """The reason says which step refused."""

    class Refusing(type(build("noop", {}))):
        name = "refusing"

        def repair(self, task):
            raise Unsupported("it needs a pool to choose from")

    from airepair.methods.combined import combine

    with pytest.raises(Unsupported, match=r"step 2, refusing: it needs a pool"):
        combine([METHODS.get("noop"), Refusing])().repair(toy.task())


def test_best_never_returns_worse_than_it_started_with():
    """With a harmful candidate alone, the subject stays as it is."""
    task = toy.task()
    start = copy.deepcopy(task.module)
    result = Best(candidates=("random@norm=5",)).repair(task)
    assert same(result, start)


def test_best_takes_what_validation_prefers_and_goes_through_the_stages():
    """A harmful first stage is dropped, the second starts where the subject stood; the stages are
    in the paper's order.
    """
    task = toy.task()
    trial = attempt(Best(candidates=("finetune@epochs=10", f"{__name__}:Shaking@norm=5")), task)
    alone = attempt(build("finetune", {"epochs": 10}), task).module
    assert same(trial.module, alone)
    assert standing(alone, task) > standing(task.module, task)
    assert [n.split()[2].rstrip(":") for n in trial.diary.notes if n.startswith("best tried")] == [
        "shaking",
        "finetune",
    ]


def test_best_stops_when_nothing_improves():
    """With patience 1 a direct modification without a gain ends it: fine-tuning is never tried."""
    trial = attempt(
        Best(candidates=(f"{__name__}:Shaking@norm=5", "finetune@epochs=2"), patience=1), toy.task()
    )
    assert not any("finetune" in n for n in trial.diary.notes)
    assert any("without a gain" in n for n in trial.diary.notes)


def test_best_refuses_itself_as_a_candidate():
    """No endless regress."""
    with pytest.raises(UsageError, match="other than best"):
        Best(candidates=("best",)).repair(toy.task())


def test_an_image_limit_is_shared_by_the_steps():
    """What the first step has used is not the second's."""
    task = toy.task()
    task = replace(task, limit=replace(task.limit, images=100))
    task.meter.add(70, training=True)
    assert continued(task, task.module, "next").limit.images == 30


def test_best_declares_the_sum_of_its_candidates():
    """Nothing for a candidate that trains on nothing, and nothing of its own on top."""
    task = toy.task()
    assert Best(candidates=(f"{__name__}:Shaking",)).budget(task) == 0
    one, both = (
        Best(candidates=names).budget(task)
        for names in (("finetune@epochs=2",), ("finetune@epochs=2", f"{__name__}:Shaking"))
    )
    assert both == one == later_budget(build("finetune", {"epochs": 2}), task)
