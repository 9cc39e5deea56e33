"""The conformance suite notices each way of breaking the contract, and says what to do."""

from __future__ import annotations

import copy
import gc
import inspect
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from airepair.errors import AirepairError, Unsupported
from airepair.options import option
from airepair.testing.bench import Violation
from airepair.testing.contract import check_method
from airepair.training.best_state import fit
from airepair.types import Category, Dataset, Task

pytest_plugins = ["pytester"]


@dataclass(frozen=True)
class Good:
    """Trains the last layer for an epoch."""

    name: ClassVar[str] = "good"
    category: ClassVar[Category] = "retraining"
    paper: ClassVar[str] = "made for this test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {"slower": {"lr": 0.008}}

    lr: float = option(0.01, "learning rate", low=0.0)

    def budget(self, task: Task) -> int:
        return len(task.failing)

    def repair(self, task: Task) -> nn.Module:
        """The module after an epoch."""
        if len(task.failing):
            recipe = replace(task.recipe, epochs=1, lr=self.lr)
            fit(task.module, task.failing, task.validation, recipe, task.generator(), watch=_watch(task))
        return task.module


def _watch(task: Task):
    from airepair.training.best_state import Watch

    return Watch(progress=task.progress, keep=task.keep)


class Drawing(Good):
    def repair(self, task: Task) -> nn.Module:
        with torch.no_grad():
            next(task.module.parameters()).add_(0.1 * torch.rand(1)[0])
        return task.module


class Scribbling(Good):
    def repair(self, task: Task) -> nn.Module:
        task.failing.images().mul_(0.5)
        return task.module


class Scores(Good):
    def repair(self, task: Task) -> nn.Module:
        return nn.Sequential(task.module, nn.Linear(4, 3))


class NotFinite(Good):
    def repair(self, task: Task) -> nn.Module:
        with torch.no_grad():
            next(task.module.parameters()).fill_(float("nan"))
        return task.module


class Forgetful(nn.Module):
    """Ignores the state that it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def load_state_dict(self, *args, **kwargs):
        return None


class Hiding(Good):
    def repair(self, task: Task) -> nn.Module:
        return Forgetful(task.module)


class Eager(Good):
    def repair(self, task: Task) -> nn.Module:
        with torch.no_grad():
            next(task.module.parameters()).mul_(0.9)
        return task.module


class Deaf(Good):
    def repair(self, task: Task) -> nn.Module:
        try:
            return super().repair(task)
        except AirepairError:
            return task.module


class Uncounted(Good):
    def repair(self, task: Task) -> nn.Module:
        if not len(task.failing):
            return task.module
        blank = copy.deepcopy(task.module)
        blank._forward_pre_hooks.clear()
        task.progress("training", 1, 1, 0.0)
        loss = nn.functional.cross_entropy(blank(task.failing.images()), task.failing.y)
        loss.backward()
        return task.module


class Curt(Good):
    def repair(self, task: Task) -> nn.Module:
        raise Unsupported("no")


class Crashing(Good):
    def repair(self, task: Task) -> nn.Module:
        task.checkpoints["early"]
        return task.module


class FloatsOnly(Good):
    def repair(self, task: Task) -> nn.Module:
        task.module(task.validation.x)
        return task.module


class Peeking(Good):
    def repair(self, task: Task) -> nn.Module:
        """Finds the test images behind the harness's back, through the frames of its callers."""
        frame, found = inspect.currentframe(), None
        while frame is not None and found is None:
            ready = frame.f_locals.get("ready")
            found = ready.subject.dataset.test if ready is not None else None
            frame = frame.f_back
        if found is not None:
            with torch.no_grad():
                next(task.module.parameters()).add_(found.images().mean())
        return task.module


class Hunting(Good):
    def repair(self, task: Task) -> nn.Module:
        """Finds the test images among all objects of the process."""
        found = next((o.test for o in gc.get_objects() if type(o) is Dataset and o.name == "toy"), None)
        if found is not None:
            with torch.no_grad():
                next(task.module.parameters()).add_(found.images().mean())
        return task.module


class NoDataclass:
    """Its options are nowhere."""

    name = "nodataclass"
    category = "retraining"
    paper = "made for this test"

    def repair(self, task: Task) -> nn.Module:
        return task.module


class Elsewhere(Good):
    def repair(self, task: Task) -> nn.Module:
        return task.module.to("meta")


class Softmax(Good):
    def repair(self, task: Task) -> nn.Module:
        return nn.Sequential(task.module, nn.Softmax(1))


class Halved(Good):
    def repair(self, task: Task) -> nn.Module:
        return task.module.half()


class Tupled(Good):
    def repair(self, task: Task):
        return task.module, 0.5


class Raising(Good):
    def repair(self, task: Task) -> nn.Module:
        raise ValueError("a fault of its own")


class OneSeed(Good):
    def repair(self, task: Task) -> nn.Module:
        if len(task.failing):
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                next(task.module.parameters()).add_(0.01 * torch.rand(1, generator=generator)[0])
        return task.module


class Spoiling(Good):
    def repair(self, task: Task) -> nn.Module:
        with torch.no_grad():
            for module in task.checkpoints.values():
                next(module.parameters()).zero_()
        return task.module


class Greedy(Good):
    def repair(self, task: Task, test: Tensor) -> nn.Module:
        return task.module


class Sourceless(Good):
    sources = "train"


class Overspending(Good):
    def budget(self, task: Task) -> int:
        return len(task.failing) - 5


class Whimsical(Good):
    """Declares another budget whenever it is asked."""

    asked: ClassVar[list[int]] = []

    def budget(self, task: Task) -> int:
        self.asked.append(0)
        return 1000 + len(self.asked)


class Choosing(Good):
    def repair(self, task: Task) -> nn.Module:
        with task.meter.choosing():
            return super().repair(task)


class Idealess(Good):
    ablations: ClassVar[dict[str, dict[str, float]]] = {}


class Ablated(Good):
    ablations: ClassVar[dict[str, dict[str, float]]] = {"same": {"lr": 0.01}}


class Paralysed(Good):
    ablations: ClassVar[dict[str, dict[str, float]]] = {"slow": {"lr": 1e-5}}


@dataclass(frozen=True)
class Lazy(Good):
    """Its ablation trains on a third of the images."""

    ablations: ClassVar[dict[str, dict[str, float]]] = {"less": {"epochs": 1, "lr": 0.03}}
    epochs: int = option(3, "epochs", low=1)

    def budget(self, task: Task) -> int:
        return self.epochs * len(task.failing)

    def repair(self, task: Task) -> nn.Module:
        if len(task.failing):
            recipe = replace(task.recipe, epochs=self.epochs, lr=self.lr)
            fit(task.module, task.failing, None, recipe, task.generator(), watch=_watch(task))
        return task.module


class Foreign(Good):
    ablations: ClassVar[dict[str, dict[str, float]]] = {"other": {"speed": 1.0}}


class Unnamed(Good):
    name: ClassVar[str] = "two words"


@dataclass(frozen=True)
class Undocumented(Good):
    depth: int = option(20, "", low=1)


@dataclass(frozen=True)
class OutOfRange(Good):
    depth: int = option(20, "depth", low=1, high=10)


def test_a_method_that_keeps_the_contract_passes():
    """No violation."""
    check_method(Good)


BROKEN = {
    Drawing: ("bit for bit", "task.generator"),
    Scribbling: ("leaves its inputs alone", "failing"),
    Scores: ("logits torch.float32 (80, 4)", "(80, 3)", "keep the subject's interface"),
    Softmax: ("probabilities", "what stands before the softmax"),
    Halved: ("takes images", "Half"),
    Elsewhere: ("on the task's device", "weights on meta; the task is on cpu"),
    Tupled: ("returns a module", "it returns tuple", "return the repaired module itself"),
    Raising: ("no other error", "ValueError: a fault of its own (test_contract.py:", "Unsupported"),
    NoDataclass: ("frozen dataclass", "NoDataclass is not", "@dataclass(frozen=True)"),
    OneSeed: ("follow the task's seed", "[0]", "task.generator(salt)"),
    Spoiling: ("leaves its inputs alone", "checkpoints['early']", "copy.deepcopy"),
    Greedy: ("takes nothing else", "repair(self, task, test)", "take data from the task"),
    NotFinite: ("finite logits", "best state on validation"),
    Hiding: ("in its state_dict", "register_buffer"),
    Eager: ("without failing inputs", "if not len(task.failing)"),
    Deaf: ("OutOfTime", "catch only what you expect"),
    Uncounted: ("counted", "task.meter.add"),
    Curt: ("carries a reason", "sentence"),
    Crashing: ("KeyError", 'raise Unsupported("why")'),
    FloatsOnly: ("uint8", "split.images"),
    Hunting: ("test split has no influence", "in the task"),
    Peeking: ("test split has no influence", "in the task"),
    Sourceless: ("`sources` is a frozenset of train, failing", "'train'"),
    Overspending: ("budget(task) is not exceeded", "declared"),
    Whimsical: ("the same each time", "1001, then 1002"),
    Choosing: ("training images count as such", "Meter.choosing"),
    Idealess: ("names an ablation", "ablations: ClassVar"),
    Ablated: ("ablation same differs from the method", "{'lr': 0.01} is what it has anyway"),
    Paralysed: ("ablation slow changes the network within a factor of 2", "a change of the same size"),
    Lazy: ("ablation less trains on 50 to 100 % of the method's images", "not the training"),
    Foreign: ("ablation other gives options that the method has", "unknown option of good 'speed'"),
    Unnamed: ("short word", "two words"),
    Undocumented: ("help text", "depth"),
    OutOfRange: ("range", "20"),
}


@pytest.mark.parametrize("method", BROKEN, ids=lambda m: m.__name__)
def test_each_breach_is_named_with_its_remedy(method: type):
    """The failure says what the contract wants and what to do."""
    with pytest.raises(Violation) as failure:
        check_method(method)
    for part in BROKEN[method]:
        assert part in str(failure.value)


def test_a_method_that_refuses_the_toy_says_so():
    """A refusal with a reason is no violation, but nothing was checked either."""

    class Refusing(Good):
        def repair(self, task: Task) -> nn.Module:
            raise Unsupported("this method repairs recurrent networks only")

    with pytest.raises(Unsupported, match="recurrent networks"):
        check_method(Refusing)


def test_a_third_partys_failure_is_three_lines_and_says_it_once(pytester: pytest.Pytester):
    """Under pytest: the rule, what was seen, what to do; no frames of the harness, and no second
    failure with the same cause.
    """
    pytester.makepyfile(
        """
        from airepair.testing.conformance import MethodConformance
        from tests.testing.test_contract import Raising
        class TestRaising(MethodConformance): method = Raising; architectures = ("mlp",)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs")
    result.assert_outcomes(passed=5, failed=1, skipped=15)
    text = result.stdout.str()
    said = (
        text.partition("= FAILURES =")[2]
        .partition("= short test summary info =")[0]
        .strip("= \n")
        .splitlines()
    )
    assert [line.split(":")[0].strip() for line in said[1:]] == ["the contract wants", "seen", "do"]
