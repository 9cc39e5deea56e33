"""What a repair method owes the harness, as checks: each names the rule that was broken and how to keep it.

Free of pytest, so that the same checks serve a test class (conformance.py), a function call, and anything else.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn, get_args

import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.errors import OutOfTime, Unsupported, UsageError
from airepair.options import check_range, configure, describe
from airepair.pipeline import prepare, run
from airepair.testing import toy
from airepair.testing.trial import Trial, answers, attempt, in_bytes, other_global_seed
from airepair.types import Category, Method, Split, Task


class Violation(AssertionError):
    """A method broke its contract: what is wanted, what was seen, what to do."""


def violated(rule: str, seen: str, do: str) -> NoReturn:
    """Raises the Violation of a rule."""
    raise Violation(f"the contract wants: {rule}\n  seen: {seen}\n  do: {do}")


@dataclass(frozen=True, eq=False)
class Bench:
    """A method's class on the toy subject of one architecture; its two full repairs are run once and shared by the checks."""

    method: type[Method]
    options: Mapping[str, Any] = field(default_factory=dict)
    architecture: toy.Architecture = "mlp"

    @cached_property
    def configured(self) -> Method:
        """The method with its options."""
        return configure(self.method, self.options)

    @cached_property
    def task(self) -> Task:
        """The toy task: about 40 failing inputs, a training set with wrong labels, an early checkpoint."""
        return toy.task(self.architecture, seed=3)

    @cached_property
    def first(self) -> Trial:
        """The repair that most checks look at."""
        return attempt(self.configured, self.task)

    @cached_property
    def second(self) -> Trial:
        """The same again, with the global random generators somewhere else."""
        with other_global_seed(4711):
            return attempt(configure(self.method, self.options), self.task)


def card(bench: Bench) -> None:
    """The class is a frozen dataclass with `name`, `category` and `paper`, and its module has a docstring."""
    cls = bench.method
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        violated("a method is a frozen dataclass", f"{cls.__name__} is not", "put @dataclass(frozen=True) above the class")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name or "-" in name or not name.isascii() or any(c.isspace() for c in name):
        violated(
            "`name` is a short word without hyphens or spaces (it becomes part of test ids)", repr(name), 'name: ClassVar[str] = "mine"'
        )
    if getattr(cls, "category", None) not in get_args(Category):
        violated("`category` is one of " + ", ".join(get_args(Category)), repr(getattr(cls, "category", None)), "take the one that fits")
    if not str(getattr(cls, "paper", "")).strip():
        violated("`paper` says where the method comes from", "nothing", 'paper: ClassVar[str] = "Author et al., Title, Venue Year"')
    if not (inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or "").strip():
        violated("the module's docstring is the method's card", f"{cls.__module__} has none", "say the idea in two sentences")


def options(bench: Bench) -> None:
    """Every option has a help text and a default that its own type and range accept; unknown options are refused."""
    fields = {f.name: f for f in dataclasses.fields(bench.method)}  # type: ignore[arg-type]
    for option in describe(bench.method):
        label = f"{bench.method.name}.{option.name}"
        if option.default is dataclasses.MISSING:
            violated("every option has a default", f"{label} has none", f'{option.name}: ... = option(DEFAULT, "what it means")')
        if not option.help:
            violated(
                "every option has a help text", f"{label} has none", f'{option.name}: ... = option({option.default!r}, "what it means")'
            )
        try:
            again = getattr(configure(bench.method, {option.name: _as_text(option.default)}), option.name)
            check_range(option.default, fields[option.name].metadata, label)
        except UsageError as error:
            violated("a default is within its own type and range", str(error), "correct the default, the type or the range")
        if again != option.default:
            violated(
                "a default given as text is the default",
                f"{label}: {option.default!r} became {again!r}",
                "use int, float, bool, str, tuple",
            )
        for end in (e for e in (option.low, option.high) if e is not None):
            _refuses(bench.method, option.name, str(end - 1 if end == option.low else end + 1), f"{label} outside its range")
    _refuses(bench.method, "no_such_option", "1", "an unknown option")


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _refuses(method: type[Method], name: str, value: Any, what: str) -> None:
    try:
        configure(method, {name: value})
    except UsageError:
        return
    violated(f"{what} is refused with a UsageError", f"{name}={value} was taken", "do not write an __init__ of your own")


def deterministic(bench: Bench) -> None:
    """Two repairs of one seed are equal bit for bit, wherever the global random generators stand."""
    one, two = bench.first, bench.second
    if one.refusal is not None or two.refusal is not None:
        if one.refusal != two.refusal:
            violated("one seed, one result", f"{one.refusal!r} and then {two.refusal!r}", "let nothing but the task decide")
        return
    a, b = one.module.state_dict(), two.module.state_dict()
    different = [k for k in a if k not in b or not torch.equal(a[k], b[k])] + [k for k in b if k not in a]
    if different or not torch.equal(one.logits, two.logits):
        violated(
            "two repairs of one seed are equal bit for bit",
            f"{len(different)} tensors differ, for example {different[:3]}",
            "draw every random number from task.generator(salt); no clock, no set order, no global generator",
        )


def global_generators(bench: Bench) -> None:
    """The global random generators of torch, numpy and Python stay where they were."""
    if bench.first.generators:
        violated(
            "the global random generators are left alone",
            f"drawn from or seeded: {', '.join(bench.first.generators)}",
            "use task.generator(salt), numpy.random.default_rng(task.seed), torch.random.fork_rng around layers that you make",
        )


def inputs(bench: Bench) -> None:
    """The task's data and checkpoints are what they were (the task's module is the method's own)."""
    if bench.first.changed:
        violated(
            "a method leaves its inputs alone",
            f"changed: {', '.join(bench.first.changed)}",
            "work on copies: split.images() of float data is a view, copy.deepcopy(checkpoint) before training it",
        )


def interface(bench: Bench) -> None:
    """The result is a module that gives finite float logits N x K on the images' device, whatever the batch; kept modules too."""
    trial = bench.first
    if trial.refusal is not None:
        return
    x, k = trial.task.validation.images(), len(trial.task.classes)
    for label, module in [("the result", trial.module), *((f"keep({name!r})", m) for name, m in trial.diary.kept)]:
        if not isinstance(module, nn.Module):
            violated("repair returns an nn.Module", f"{label} is {type(module).__name__}", "return the module, not a state or a tuple")
        _check_logits(label, answers(module, x), (len(x), k), x.device)
        one = answers(module, x[:1])
        _check_logits(label, one, (1, k), x.device)
        if not torch.allclose(one, answers(module, x)[:1], atol=1e-4):
            violated(
                "an image's logits do not depend on its batch",
                f"{label} differs on a batch of one",
                "no statistics over the batch in eval()",
            )


def _check_logits(label: str, y: Any, shape: tuple[int, int], device: torch.device) -> None:
    if not isinstance(y, Tensor) or tuple(y.shape) != shape or not y.dtype.is_floating_point or y.device != device:
        seen = f"{y.dtype} {tuple(y.shape)} on {y.device}" if isinstance(y, Tensor) else type(y).__name__
        violated(f"float logits {shape} on {device}", f"{label} gives {seen}", "keep the subject's interface; no softmax, no tuple")
    if not bool(torch.isfinite(y).all()):
        violated(
            "finite logits", f"{label} gives NaN or infinity", "lower the step, or return the best state on validation (training.Best)"
        )


def saving(bench: Bench) -> None:
    """All of the result lives in its state_dict, which a copy can load; the module as a whole can be saved and loaded."""
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
            "state_dict and module survive torch.save and torch.load", f"{type(error).__name__}: {error}", "no lambdas or open files in it"
        )
    if not torch.equal(answers(copied, trial.task.validation.images()), expected):
        violated(
            "everything that the result needs is in its state_dict",
            "a copy that was emptied and loaded answers otherwise",
            "register tensors as parameters or buffers (register_buffer); plain attributes are not saved",
        )
    if not torch.equal(answers(whole, trial.task.validation.images()), expected):
        violated("a saved and loaded module answers as before", "it does not", "see __getstate__ or deepcopy of your module")


def _round_trip(value: Any, *, weights_only: bool) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=weights_only)


def perfect_model(bench: Bench) -> None:
    """Where nothing fails the subject stays as it is, or the method says why not (task.note, or Unsupported)."""
    task = bench.task
    none = torch.zeros(0, dtype=torch.long)
    trial = attempt(bench.configured, replace(task, failing=task.failing.select(none)))
    if trial.refusal is not None or trial.diary.notes:
        return
    if not torch.equal(trial.logits, answers(trial.start, task.validation.images())):
        violated(
            "a subject without failing inputs is left alone",
            "its logits changed, and no note says why",
            "begin repair with: if not len(task.failing): return task.module",
        )


def time_limit(bench: Bench) -> None:
    """`task.progress` is called while training, and what it raises (the harness's time limit) leaves the method."""
    if bench.first.refusal is not None:
        return
    if not bench.first.diary.progress:
        if bench.first.diary.gradients:
            violated(
                "a method that trains calls task.progress", "it never did", "pass task.progress on (training.Watch(progress=task.progress))"
            )
        return

    def stop() -> None:
        raise OutOfTime("the time limit of the conformance suite")

    try:
        attempt(bench.configured, bench.task, stop)
    except OutOfTime:
        return
    violated(
        "OutOfTime from task.progress ends the repair",
        "it was caught inside",
        "catch only what you expect, never Exception or AirepairError",
    )


def budget(bench: Bench) -> None:
    """Images that went through forward and backward are counted by the task's meter."""
    trial = bench.first
    if trial.diary.gradients and not trial.task.meter.backward:
        violated(
            "training images are counted: task.meter.backward > 0 after gradients were computed",
            f"{trial.diary.gradients} reverse passes, 0 images counted",
            "call the task's module (or a copy.deepcopy of it) itself; for torch.func add task.meter.add(n, training=True)",
        )


def refusals(bench: Bench) -> None:
    """Without training data, checkpoints or layers that it knows, a method either repairs or raises Unsupported with a reason."""
    task, none = bench.task, torch.zeros(0, dtype=torch.long)
    bare = replace(task, train=task.train.select(none), checkpoints={}, pool=None, environment=None)
    for what, hard in {
        "no training data and no checkpoints": bare,
        "a network of unknown layers": replace(
            bare, module=Opaque(task.validation.images()[0].numel(), len(task.classes)), train=task.train
        ),
    }.items():
        try:
            trial = attempt(bench.configured, hard)
        except Exception as error:
            violated(f"{what}: repaired, or Unsupported with a reason", f"{type(error).__name__}: {error}", 'raise Unsupported("why")')
        if trial.refusal is not None and len(trial.refusal.split()) < 3:
            violated(f"{what}: the refusal carries a reason", repr(trial.refusal), "say what is missing in a sentence")
    if bench.first.refusal is not None and len(bench.first.refusal.split()) < 3:
        violated("a refusal carries a reason", repr(bench.first.refusal), "say in a sentence what the subject lacks")


def bytes_as_well(bench: Bench) -> None:
    """Images may be uint8 in 0..255: split.images() makes them float in [0, 1]."""
    task = bench.task
    names = ("train", "failing", "passing", "validation")
    splits: dict[str, Split] = {name: in_bytes(getattr(task, name)) for name in names}
    try:
        trial = attempt(bench.configured, replace(task, **splits))  # type: ignore[arg-type]
    except Exception as error:
        violated(
            "splits of uint8 images work too",
            f"{type(error).__name__}: {error}",
            "read images with split.images(index) or split.batches(n)",
        )
    if trial.refusal is None:
        _check_logits("on uint8 images the result", trial.logits, (len(task.validation), len(task.classes)), task.device)


def no_test_split(bench: Bench) -> None:
    """A task holds no test images, so a method has none to look at; `repair` takes the task and nothing else."""
    held = [f.name for f in dataclasses.fields(Task) if "test" in f.name]
    if held:
        violated("the task has no test split", f"fields {held}", "remove them from airepair.types.Task")
    names = list(inspect.signature(bench.method.repair).parameters)
    if names[1:] != ["task"]:
        violated("repair(self, task) takes nothing else", f"repair({', '.join(names)})", "take data from the task, settings from options")


def poisoned_test(bench: Bench) -> None:
    """Through the whole pipeline, a test split of inverted images and wrong labels changes nothing about the repaired weights."""
    subject = toy.subject(bench.architecture)
    split, classes = subject.dataset.test, len(subject.dataset.classes)
    poison = replace(subject, dataset=replace(subject.dataset, test=Split(1 - split.images(), (split.y + 1) % classes)))
    case = Case("toy", bench.architecture, "trial", 3)
    one, two = (run(prepare(case, s, configure(bench.method, bench.options))) for s in (subject, poison))
    weights = [{} if o.module is None else o.module.state_dict() for o in (one, two)]
    same = weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    if not same or one.record.status != two.record.status:
        violated(
            "the test split has no influence on the repair",
            f"with a poisoned one the result is another ({one.record.status}, {two.record.status})",
            "load no data of your own: what a method may see is in the task",
        )


class Opaque(nn.Module):
    """A linear classifier without any layer that a method could look for: one raw parameter."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(inputs, classes, generator=generator) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return x.flatten(1) @ self.matrix


CHECKS: tuple[Callable[[Bench], None], ...] = (
    card,
    options,
    no_test_split,
    deterministic,
    global_generators,
    inputs,
    interface,
    saving,
    perfect_model,
    time_limit,
    budget,
    bytes_as_well,
    poisoned_test,
    refusals,
)


def check_method(method: type[Method], options: Mapping[str, Any] | None = None, architecture: toy.Architecture = "mlp") -> None:
    """Every check of the contract on one architecture; an AssertionError lists all that was broken.

    Unsupported if the method refuses this architecture: there would be nothing to check.
    """
    bench, broken = Bench(method, options or {}, architecture), []
    for check in CHECKS:
        try:
            check(bench)
        except Violation as violation:
            broken.append(f"{check.__name__}: {violation}")
    if broken:
        raise Violation("\n".join([f"{getattr(method, 'name', method.__name__)} breaks its contract {len(broken)} times", *broken]))
    if bench.first.refusal is not None:
        raise Unsupported(bench.first.refusal)
