"""Methods that misbehave, one kind each: what they do to their task, to their process, or to what
they return (tests/runner/test_bad_methods.py).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import airepair.evaluation.exam
from airepair.types import Category, Source, Subject, Task


class Wrapped(nn.Module):
    """The repaired module behind a change of its answers."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Any:
        """The changed logits."""
        return self.change(self.inner(x))


class Tired(Wrapped):
    """Fails after a few calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner, lambda logits: logits)
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        """Logits, three times."""
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("tired")
        return super().forward(x)


class Silent(Wrapped):
    """Its train() and eval() return None, as many a class of the field's does."""

    def train(self, mode: bool = True) -> Any:
        """Nothing is returned."""
        super().train(mode)

    def eval(self) -> Any:
        """Nothing is returned."""
        super().train(False)


class Stateless(Wrapped):
    """Its state_dict raises."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Raises."""
        raise RuntimeError("no state for you")


class Unspeakable(Exception):
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise ValueError("not even my name")


def nan_for_many(logits: Tensor) -> Tensor:
    """NaN for the images that are given as many together, not for a few."""
    return logits * torch.nan if len(logits) > 64 else logits


def subjects() -> list[Subject]:
    """Every subject alive in this process."""
    return [o for o in gc.get_objects() if isinstance(o, Subject)]


def digs_up(task: Task) -> nn.Module:
    """Writes into the benchmark's own data, found through the garbage collector."""
    for subject in subjects():
        subject.dataset.train.x.zero_()
    return task.module


def spoils_subject(task: Task) -> nn.Module:
    """Writes into the subject itself."""
    for subject in subjects():
        with torch.no_grad():
            next(subject.module.parameters()).zero_()
    return task.module


def writes_images(task: Task) -> nn.Module:
    task.train.x.zero_()
    return task.module


def writes_labels(task: Task) -> nn.Module:
    task.failing.y.zero_()
    task.validation.y.zero_()
    return task.module


def does(action: Callable[[], object]) -> Callable[[Task], nn.Module]:
    """A method that does something to its process and returns the module as it is."""

    def repair(task: Task) -> nn.Module:
        action()
        return task.module

    return repair


def raises(error: BaseException) -> Callable[[Task], nn.Module]:
    def repair(task: Task) -> nn.Module:
        raise error

    return repair


def returns(build: Callable[[nn.Module], Any]) -> Callable[[Task], Any]:
    return lambda task: build(task.module)


def reports(report: Callable[[Task], object]) -> Callable[[Task], nn.Module]:
    def repair(task: Task) -> nn.Module:
        report(task)
        return task.module

    return repair


def patches_loss() -> None:
    torch.nn.functional.cross_entropy = lambda *_, **__: torch.zeros((), requires_grad=True)  # type: ignore[assignment]


def patches_exam() -> None:
    airepair.evaluation.exam.logits_of = lambda *_, **__: torch.zeros(1, 10)  # type: ignore[assignment]


def patches_class() -> None:
    nn.Linear.forward = lambda self, x: x @ self.weight.T * 0  # type: ignore[method-assign]


# name -> (what it does, expected status, words of the reason or of a note)
KINDS: dict[str, tuple[Callable[[Task], Any], str, str]] = {
    # what it was given
    "zeros_train": (writes_images, "failed", "train images that it was given"),
    "relabels": (writes_labels, "failed", "validation images that it was given"),
    "dug_up": (digs_up, "failed", "changed the data or the subject"),
    "spoil_subject": (spoils_subject, "failed", "the subject"),
    # its process
    "dtype": (does(lambda: torch.set_default_dtype(torch.float64)), "repaired", "default dtype"),
    "no_gradients": (does(lambda: torch._C._set_grad_enabled(False)), "repaired", "gradient mode"),
    "denormals": (does(lambda: torch.set_flush_denormal(True)), "repaired", "denormal"),
    "threads": (does(lambda: torch.set_num_threads(2)), "repaired", "number of threads"),
    "deterministic": (does(lambda: torch.use_deterministic_algorithms(True)), "repaired", "deterministic"),
    "patched_loss": (does(patches_loss), "repaired", "cross_entropy"),
    "patched_exam": (does(patches_exam), "repaired", "logits_of"),
    "patched_class": (does(patches_class), "repaired", "Linear.forward"),
    "folder": (does(lambda: os.chdir("/")), "repaired", "working directory"),
    "environment": (does(lambda: os.environ.update(OMP_NUM_THREADS="7")), "repaired", "environment"),
    "signals": (does(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)), "repaired", "signal"),
    "hooks": (
        does(lambda: nn.modules.module.register_module_forward_hook(lambda *_: torch.zeros(1, 10))),
        "repaired",
        "hooks",
    ),
    "output": (does(lambda: setattr(sys, "stdout", None)), "repaired", "standard output"),
    # how it ends
    "exit": (raises(SystemExit(3)), "failed", "SystemExit"),
    "generator_exit": (raises(GeneratorExit()), "failed", "GeneratorExit"),
    "interrupt": (raises(KeyboardInterrupt()), "failed", "KeyboardInterrupt"),
    "skip": (raises(pytest.skip.Exception("not today")), "failed", "not today"),
    "pytest_exit": (raises(pytest.exit.Exception("enough")), "failed", "enough"),
    "unspeakable": (raises(Unspeakable()), "failed", "Unspeakable"),
    # what it returns
    "none": (returns(lambda _: None), "failed", "NoneType"),
    "text": (returns(lambda _: "repaired"), "failed", "str"),
    "a_class": (returns(lambda m: type(m)), "failed", "accepted: a torch.nn.Module"),
    "integers": (returns(lambda m: Wrapped(m, lambda z: z.argsort(1))), "failed", "int64"),
    "complex": (returns(lambda m: Wrapped(m, lambda z: z.to(torch.complex64))), "failed", "complex64"),
    "sparse": (returns(lambda m: Wrapped(m, lambda z: z.to_sparse())), "failed", "sparse"),
    "tuple": (returns(lambda m: Wrapped(m, lambda z: (z, z))), "failed", "tuple"),
    "narrow": (returns(lambda m: Wrapped(m, lambda z: z[:, :3])), "failed", "accepted: ("),
    "some_nan": (returns(lambda m: Wrapped(m, nan_for_many)), "failed", "not finite"),
    "one_batch_size": (
        returns(lambda m: Wrapped(m, lambda z: z.reshape(8, -1)[:, :10])),
        "failed",
        "raises when it is examined",
    ),
    "tired": (returns(Tired), "failed", "tired"),
    "stateless": (returns(lambda m: Stateless(m, lambda z: z)), "failed", "no state for you"),
    "silent": (returns(lambda m: Silent(m, lambda z: z)), "repaired", ""),
    # what it reports
    "kept_raises": (
        reports(lambda t: t.keep("odd", Wrapped(t.module, lambda z: 1 / 0))),
        "repaired",
        "could not be examined",
    ),
    "progress_tensor": (reports(lambda t: t.progress("a", 1, 2, torch.tensor(0.5))), "repaired", ""),  # type: ignore[arg-type]
    "progress_numpy": (reports(lambda t: t.progress("a", np.int64(1), 2, np.float32(0.5))), "repaired", ""),  # type: ignore[arg-type]
    "progress_none": (reports(lambda t: t.progress("a", 1, 2, None)), "repaired", ""),  # type: ignore[arg-type]
    "progress_nan": (reports(lambda t: t.progress("a", 1, 2, float("nan"))), "repaired", ""),
    "note_number": (reports(lambda t: t.note(42)), "repaired", "42"),  # type: ignore[arg-type]
    "note_surrogate": (reports(lambda t: t.note("half \ud800")), "repaired", "half ?"),
}


@dataclass(frozen=True)
class Bad:
    """Misbehaves as its module attribute says; one class per kind, since a cell names a class."""

    name: ClassVar[str] = "bad"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "passing", "unlabelled"))
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}
    kind: ClassVar[str] = ""

    def budget(self, task: Task) -> int:
        """Declares nothing."""
        return 0

    def repair(self, task: Task) -> Any:
        """Does what its kind says."""
        return KINDS[self.kind][0](task)


def __getattr__(name: str) -> type[Bad]:
    """`tests.bad_methods:zeros_train` is the method of that kind."""
    if name not in KINDS:
        raise AttributeError(name)
    return type(name, (Bad,), {"kind": name, "name": name, "__doc__": Bad.__doc__, "__module__": __name__})
