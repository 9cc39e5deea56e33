"""What a repair method owes the harness, as checks: each names the rule that was broken and how to keep it.

Free of pytest, so that the same checks serve a test class (conformance.py), a function call, and
anything else.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.errors import OutOfTime, Unsupported, UsageError, one_line
from airepair.options import configure
from airepair.runner.audit import MOST
from airepair.testing import declarations, toy
from airepair.testing.bench import Bench, Violation, violated, where
from airepair.testing.card import card, no_test_split, options
from airepair.testing.cells import prepare, run
from airepair.testing.trial import Trial, answers, attempt, in_bytes
from airepair.types import Split, Task


def returns(bench: Bench) -> None:
    """`repair` returns a module that takes images on their device, or raises Unsupported with a
    reason; no other error leaves it.
    """
    refusal = bench.first.refusal
    if refusal is not None and len(refusal.split()) < 3:
        violated("a refusal carries a reason", repr(refusal), "say in a sentence what the subject lacks")


def _attempt(bench: Bench, task: Task, what: str, do: str) -> Trial:
    """A repair of another task than the first; an error is a broken rule."""
    try:
        return attempt(bench.configured, task)
    except Exception as error:
        violated(what, where(error), do)


def deterministic(bench: Bench) -> None:
    """Two repairs of one seed are equal bit for bit, wherever the global random generators stand."""
    one, two = bench.first, bench.second
    if one.refusal is not None or two.refusal is not None:
        if one.refusal != two.refusal:
            violated(
                "one seed, one result",
                f"{one.refusal!r} and then {two.refusal!r}",
                "let nothing but the task decide",
            )
        return
    a, b = one.module.state_dict(), two.module.state_dict()
    different = [k for k in a if k not in b or not _same(a[k], b[k])] + [k for k in b if k not in a]
    if different or not _same(one.logits, two.logits):
        violated(
            "two repairs of one seed are equal bit for bit",
            f"{len(different)} tensors differ, for example {different[:3]}"
            if different
            else "one state_dict, but other logits",
            "draw every random number from task.generator(salt); no clock, no set order, no global generator",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, NaN included: that a result is not finite is another rule."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def seeded(bench: Bench) -> None:
    """A random number depends on the task's seed: another seed starts other generators."""
    if bench.first.refusal is not None or not bench.first.diary.seeds:
        return
    if bench.reseeded.diary.seeds == bench.first.diary.seeds:
        violated(
            "random numbers follow the task's seed",
            f"with seed {bench.task.seed} and with {bench.task.seed + 1} the generators start from "
            f"{sorted(set(bench.first.diary.seeds))[:3]}",
            "draw from task.generator(salt): else repeats over seeds are copies of one, "
            "and their spread is nothing",
        )


def global_generators(bench: Bench) -> None:
    """The global random generators of torch, numpy and Python are left alone."""
    if bench.first.generators:
        violated(
            "the global random generators are left alone",
            f"drawn from or seeded: {', '.join(bench.first.generators)}",
            "use task.generator(salt), numpy.random.default_rng(task.seed), torch.random.fork_rng around "
            "layers that you make",
        )


def inputs(bench: Bench) -> None:
    """The task's data and checkpoints are what they were (the task's module is the method's own)."""
    if bench.first.changed:
        violated(
            "a method leaves its inputs alone",
            f"changed: {', '.join(bench.first.changed)}",
            "work on copies: split.images() of float data is a view, copy.deepcopy(checkpoint) before "
            "training it",
        )


def interface(bench: Bench) -> None:
    """The result is a module that gives finite float logits N x K on the images' device, whatever
    the batch; kept modules too.
    """
    trial = bench.first
    if trial.refusal is not None:
        return
    x, k = trial.task.validation.images(), len(trial.task.classes)
    for label, module in [
        ("the result", trial.module),
        *((f"keep({name!r})", m) for name, m in trial.diary.kept),
    ]:
        if not isinstance(module, nn.Module):
            violated(
                "task.keep is given an nn.Module",
                f"{label} is {type(module).__name__}",
                "the module, not a state or a tuple",
            )
        every, one = _logits(label, module, x, k), _logits(label, module, x[:1], k)
        if not torch.allclose(one, every[:1], atol=1e-4):
            violated(
                "an image's logits do not depend on its batch",
                f"{label} differs on a batch of one",
                "no statistics over the batch in eval()",
            )


def _logits(label: str, module: nn.Module, x: Tensor, classes: int) -> Tensor:
    """The module's logits of a batch; Violation if they are none."""
    try:
        y: Any = answers(module, x)
    except Exception as error:
        violated(
            f"logits of {len(x)} images",
            f"{label} raises {one_line(error, 200)}",
            "any batch size, from one image on",
        )
    if (
        not isinstance(y, Tensor)
        or y.shape != (len(x), classes)
        or y.dtype != torch.float32
        or y.device != x.device
    ):
        seen = f"{y.dtype} {tuple(y.shape)} on {y.device}" if isinstance(y, Tensor) else type(y).__name__
        wanted = f"logits torch.float32 {(len(x), classes)} on {x.device}"
        violated(wanted, f"{label} gives {seen}", "keep the subject's interface; no softmax, no tuple")
    if not bool(torch.isfinite(y).all()):
        violated(
            "finite logits",
            f"{label} gives NaN or infinity",
            "lower the step, or return the best state on validation (training.Best)",
        )
    if bool((y >= 0).all()) and torch.allclose(y.sum(1), torch.ones(len(y), device=y.device), atol=1e-3):
        violated(
            "logits",
            f"{label} gives probabilities: rows that sum to 1",
            "return what stands before the softmax",
        )
    return y


def saving(bench: Bench) -> None:
    """All of the result is in its state_dict, which a copy can load; the module as a whole can be
    saved and loaded.
    """
    trial = bench.first
    if trial.refusal is not None:
        return
    expected, copied = trial.logits, copy.deepcopy(trial.module)
    try:
        state = _round_trip(trial.module.state_dict(), weights_only=True)
        with torch.no_grad():
            for tensor in copied.state_dict().values():
                tensor.zero_()
        copied.load_state_dict(state)
        whole = _round_trip(trial.module, weights_only=False)  # our own bytes of a moment ago, never a file
    except Exception as error:
        violated(
            "state_dict and module survive torch.save and torch.load",
            f"{type(error).__name__}: {error}",
            "no lambdas or open files in it",
        )
    if not torch.equal(answers(copied, trial.task.validation.images()), expected):
        violated(
            "everything that the result needs is in its state_dict",
            "a copy that was emptied and loaded answers otherwise",
            "register tensors as parameters or buffers (register_buffer); plain attributes are not saved",
        )
    if not torch.equal(answers(whole, trial.task.validation.images()), expected):
        violated(
            "a saved and loaded module answers as before",
            "it does not",
            "see __getstate__ or deepcopy of your module",
        )


def _round_trip(value: Any, *, weights_only: bool) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=weights_only)


def perfect_model(bench: Bench) -> None:
    """If nothing fails, the subject stays as it is, or the method says why not (task.note, or
    Unsupported).
    """
    task = bench.task
    none = torch.zeros(0, dtype=torch.long)
    again = "begin repair with: if not len(task.failing): return task.module"
    trial = _attempt(
        bench,
        replace(task, failing=task.failing.select(none)),
        "a subject without failing inputs is left alone",
        again,
    )
    if trial.refusal is not None or trial.diary.notes:
        return
    if not torch.equal(trial.logits, answers(trial.start, task.validation.images())):
        violated(
            "a subject without failing inputs is left alone",
            "its logits changed, and no note says why",
            again,
        )


def time_limit(bench: Bench) -> None:
    """`task.progress` is called while training, and what it raises (the harness's time limit)
    leaves the method.
    """
    if bench.first.refusal is not None:
        return
    if not bench.first.diary.progress:
        if bench.first.diary.gradients:
            violated(
                "a method that trains calls task.progress",
                "it never did",
                "pass task.progress on (training.Watch(progress=task.progress))",
            )
        return

    def stop() -> None:
        raise OutOfTime("the time limit of the conformance suite")

    try:
        attempt(bench.configured, bench.task, stop)
    except OutOfTime:
        return
    except Exception as error:
        violated(
            "OutOfTime from task.progress leaves the method as it is",
            where(error),
            "catch only what you expect",
        )
    violated(
        "OutOfTime from task.progress ends the repair",
        "it was caught inside",
        "catch only what you expect, never Exception or AirepairError",
    )


def counted(bench: Bench) -> None:
    """The task's meter counts the images that went through forward and backward."""
    trial = bench.first
    if trial.diary.gradients and not trial.task.meter.backward:
        violated(
            "training images are counted: task.meter.backward > 0 after gradients were computed",
            f"{trial.diary.gradients} reverse passes, 0 images counted",
            "call the task's module (or a copy.deepcopy of it) itself; "
            "for torch.func add task.meter.add(n, training=True)",
        )


def audited(bench: Bench) -> None:
    """The work of a repair is what its images explain, counted by the operation: no training that
    the meter does not see.
    """
    trial = attempt(bench.configured, bench.task, audited=True)
    if trial.finding is not None and not trial.finding.passed:
        violated(
            f"the work of a repair is at most {MOST} times what its counted images cost",
            str(trial.finding),
            "call the task's module (or a copy.deepcopy of it) itself; one backward pass per forward pass; "
            "airepair.evaluation.work.billed for other work",
        )


def refusals(bench: Bench) -> None:
    """A method either repairs or raises Unsupported with a reason if it has no training data, no
    checkpoints or only layers that it does not know.
    """
    task, none = bench.task, torch.zeros(0, dtype=torch.long)
    bare = replace(task, train=task.train.select(none), checkpoints={}, pool=None, environment=None)
    for what, hard in {
        "no training data and no checkpoints": bare,
        "a network of unknown layers": replace(
            bare, module=Opaque(task.validation.images()[0].numel(), len(task.classes)), train=task.train
        ),
    }.items():
        trial = _attempt(
            bench, hard, f"{what}: repaired, or Unsupported with a reason", 'raise Unsupported("why")'
        )
        if trial.refusal is not None and len(trial.refusal.split()) < 3:
            violated(
                f"{what}: the refusal carries a reason",
                repr(trial.refusal),
                "say what is missing in a sentence",
            )


def bytes_as_well(bench: Bench) -> None:
    """Images may be uint8 in 0..255: split.images() makes them float in [0, 1]."""
    task = bench.task
    names = ("train", "failing", "passing", "validation")
    splits: dict[str, Split] = {name: in_bytes(getattr(task, name)) for name in names}
    words = "splits of uint8 images work too", "read images with split.images(index) or split.batches(n)"
    trial = _attempt(bench, replace(task, **splits), *words)  # type: ignore[arg-type]
    if trial.refusal is None:
        _logits("on uint8 images the result", trial.module, task.validation.images(), len(task.classes))


def poisoned_test(bench: Bench) -> None:
    """Through the whole pipeline, a test split of inverted images and wrong labels changes nothing
    about the repaired weights.
    """
    (one, as_it_is), (two, poisoned) = (
        _through_the_pipeline(bench, poison=poison) for poison in (False, True)
    )
    if as_it_is != poisoned or one.keys() != two.keys() or not all(_same(one[k], two[k]) for k in one):
        violated(
            "the test split has no influence on the repair",
            f"with a poisoned one the result is another ({as_it_is}, {poisoned})",
            "load no data of your own: what a method may see is in the task",
        )


def _through_the_pipeline(bench: Bench, *, poison: bool) -> tuple[dict[str, Tensor], str]:
    """The repaired state and how the cell ended.

    Only one subject is alive at a time: whoever looks for test images finds these.
    """
    subject = toy.subject(bench.architecture)
    if poison:
        split, classes = subject.dataset.test, len(subject.dataset.classes)
        split = Split(1 - split.images(), (split.y + 1) % classes)
        subject = replace(subject, dataset=replace(subject.dataset, test=split))
    case = Case("toy", bench.architecture, "trial", 3)
    outcome = run(prepare(case, subject, configure(bench.method, bench.options)))
    return (
        {} if outcome.module is None else outcome.module.state_dict()
    ), f"{outcome.record.status} {outcome.record.reason}".strip()


class Opaque(nn.Module):
    """It is a linear classifier without any layer that a method could look for: one raw parameter."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(inputs, classes, generator=generator) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of images."""
        return x.flatten(1) @ self.matrix


CHECKS: tuple[Callable[[Bench], None], ...] = (
    card,
    options,
    declarations.sources,
    no_test_split,
    returns,
    interface,
    deterministic,
    seeded,
    global_generators,
    inputs,
    saving,
    perfect_model,
    time_limit,
    counted,
    audited,
    declarations.budget,
    declarations.ablations,
    bytes_as_well,
    poisoned_test,
    refusals,
)


def check_method(
    method: type[Any], options: Mapping[str, Any] | None = None, architecture: toy.Architecture = "mlp"
) -> None:
    """Runs every check of the contract on one architecture; an AssertionError lists all that was broken, up
    to a repair that gives no module.

    Unsupported if the method refuses this architecture: there would be nothing to check.
    """
    bench, broken = Bench(method, options or {}, architecture), []
    for check in CHECKS:
        try:
            check(bench)
        except UsageError as error:
            broken.append(f"{check.__name__}: {error}")
        except Violation as violation:
            broken.append(f"{check.__name__}: {violation}")
            if check is returns:
                break
    if broken:
        raise Violation(
            "\n".join(
                [
                    f"{getattr(method, 'name', method.__name__)} breaks its contract {len(broken)} times",
                    *broken,
                ]
            )
        )
    if bench.first.refusal is not None:
        raise Unsupported(bench.first.refusal)
