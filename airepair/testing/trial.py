"""One watched repair of a toy subject: what came out, and everything the contract asks about that
happened on the way.
"""

from __future__ import annotations

import copy
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy
import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.host.digest import of_parts
from airepair.methods.information import restricted
from airepair.runner.audit import Audit, Finding
from airepair.types import Meter, Method, Split, Task


@dataclass(eq=False)
class Diary:
    """Collects what a repair reported: (phase, step, steps, loss) of each progress call, the kept
    modules, the notes; and what was seen of it: its gradient calls, and the seeds from which
    generators of its own started.
    """

    progress: list[tuple[str, int, int, float]] = field(default_factory=list)
    kept: list[tuple[str, nn.Module]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gradients: int = 0
    seeds: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Trial:
    """Holds a finished repair. `module` is None if the method refused, and `refusal` then says why.

    `logits` are those of the validation images (N x K); `changed` names the inputs of the task that
    are not what they were; `generators` names the global random generators that the method drew
    from or seeded. `finding` is the audit's, where one was asked for.
    """

    task: Task
    start: nn.Module
    module: Any
    refusal: str | None
    diary: Diary
    changed: tuple[str, ...]
    generators: tuple[str, ...]
    finding: Finding | None = None

    @property
    def logits(self) -> Tensor:
        """Returns the logits of the repaired module in evaluation mode on the validation images."""
        return answers(self.module, self.task.validation.images())


@torch.no_grad()
def answers(module: nn.Module, x: Tensor) -> Tensor:
    """What a copy of the module in evaluation mode says of images in [0, 1]: nothing that the
    module remembers is touched.
    """
    return copy.deepcopy(module).eval()(x)  # type: ignore[no-any-return]


def attempt(
    method: Method, task: Task, stop: Callable[..., None] | None = None, *, audited: bool = False
) -> Trial:
    """Lets `method` repair the task's module under watch. `stop` is called at each progress call (and
    may raise).

    `audited`: the work is counted too.
    """
    diary, meter = Diary(), Meter()
    module, checkpoints = (
        copy.deepcopy(task.module),
        {name: copy.deepcopy(m) for name, m in task.checkpoints.items()},
    )
    for counted in (module, *checkpoints.values()):
        counted.register_forward_pre_hook(meter)

    def progress(phase: str, step: int, steps: int, loss: float) -> None:
        diary.progress.append((phase, step, steps, loss))
        if stop is not None:
            stop()

    def keep(phase: str, kept: nn.Module) -> None:
        diary.kept.append((phase, copy.deepcopy(kept)))

    watched = replace(
        task,
        module=module,
        checkpoints=checkpoints,
        meter=meter,
        progress=progress,
        keep=keep,
        note=diary.notes.append,
    )
    watched = restricted(watched, method.sources)
    digests, states = digests_of(watched), global_states()
    refusal, result = None, None
    audit = Audit(watched) if audited else None
    with counting_gradients(diary), noting_seeds(diary, type(method).__module__), audit or nullcontext():
        try:
            result = method.repair(watched)
        except Unsupported as error:
            refusal = str(error)
    changed = tuple(k for k, v in digests_of(watched).items() if digests[k] != v)
    generators = tuple(k for k, v in global_states().items() if states[k] != v)
    finding = audit.finding(result) if audit is not None and isinstance(result, nn.Module) else None
    return Trial(watched, task.module, result, refusal, diary, changed, generators, finding)


@contextmanager
def counting_gradients(diary: Diary) -> Iterator[None]:
    """Counts every reverse pass, whoever asks for it: the independent witness beside the meter."""

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            diary.gradients += 1
            return original(*args, **kwargs)

        return call

    with (
        patch("torch.autograd.backward", counted(torch.autograd.backward)),
        patch("torch.autograd.grad", counted(torch.autograd.grad)),
    ):
        yield


@contextmanager
def noting_seeds(diary: Diary, module: str) -> Iterator[None]:
    """Notes the seeds of generators of torch, numpy and Python that the method's own code makes: its
    package, or its file if it is one of ours.

    What it calls may have fixed ones (the check inputs of a conversion); the global ones are
    watched by their states.
    """
    root = module.partition(".")[0]

    def own(name: str) -> bool:
        return name in (module, "airepair.types") or (root != "airepair" and name.partition(".")[0] == root)

    def note(seed: Any) -> None:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_globals.get("__name__") == "random":
            frame = frame.f_back
        if isinstance(seed, int) and own(str(frame.f_globals.get("__name__"))):
            diary.seeds.append(seed)

    # Classes in the place of classes: what a repair imports may inherit from them.
    class Noted(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            note(seed)
            return super().manual_seed(seed)

    class NotedRandom(random.Random):
        def seed(self, a: Any = None, version: int = 2) -> None:
            note(a)
            super().seed(a, version)

    def noted(seed: Any = None, original: Callable[..., Any] = numpy.random.default_rng) -> Any:
        note(seed)
        return original(seed)

    with (
        patch("torch.Generator", Noted),
        patch("numpy.random.default_rng", noted),
        patch("random.Random", NotedRandom),
    ):
        yield


def digests_of(task: Task) -> dict[str, str]:
    """Returns a digest of every input of the task that a method must leave alone."""
    found = {
        name: digest(getattr(task, name))
        for name in ("train", "failing", "passing", "validation", "pool", "unlabelled")
    }
    found |= {f"checkpoints[{name!r}]": digest(module) for name, module in task.checkpoints.items()}
    return found | {"checkpoints": digest(sorted(task.checkpoints))}


def digest(value: Split | Tensor | nn.Module | list[str] | None) -> str:
    """Returns a digest of values, types and shapes; a module's covers parameters, buffers and
    training modes.
    """
    if isinstance(value, Split):
        parts: Mapping[str, Any] = {"x": value.x, "y": value.y}
    elif isinstance(value, nn.Module):
        parts = {**value.state_dict(), **{f"mode of {k}": m.training for k, m in value.named_modules()}}
    else:
        parts = {"value": value}
    return of_parts(key.encode() + _bytes(part) for key, part in parts.items())


def _bytes(part: Any) -> bytes:
    if not isinstance(part, Tensor):
        return repr(part).encode()
    return f"{part.dtype}{tuple(part.shape)}".encode() + part.detach().cpu().contiguous().numpy().tobytes()


def global_states() -> dict[str, str]:
    """Returns a digest of each global random generator's state, by the name of its library."""
    legacy = numpy.random.get_state()  # noqa: NPY002 - the legacy global generator is what is being watched
    states = {"torch": torch.get_rng_state().tolist(), "numpy": legacy, "random": random.getstate()}
    return {name: of_parts([pickle.dumps(state)]) for name, state in states.items()}


@contextmanager
def other_global_seed(seed: int) -> Iterator[None]:
    """Puts the global generators at another seed; their states come back at the end."""
    legacy = numpy.random.get_state()  # noqa: NPY002 - the legacy global generator is what is being moved
    states = torch.get_rng_state(), random.getstate()
    torch.manual_seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        numpy.random.set_state(legacy)  # noqa: NPY002
        random.setstate(states[1])


def in_bytes(split: Split) -> Split:
    """Returns the split with its images as uint8 in 0..255, as most data sets hold them."""
    return Split((split.images() * 255).round().to(torch.uint8), split.y)
