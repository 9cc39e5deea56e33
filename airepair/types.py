"""The nouns of the project, frozen. Read this first, then airepair/runner/.

Shapes: N images, C channels, H x W pixels, K classes. A module takes float images in [0, 1] (N x C
x H x W) and returns logits (N x K): whatever scaling a network wants is part of the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from airepair.case import Source as Source
from airepair.host.digest import of_parts

Module = TypeVar("Module", bound=nn.Module)
# A seeded, batched change of images in [0, 1] to images in [0, 1]: an augmentation or a corruption.
Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """Holds labelled images on one device. `x`: N x C x H x W, uint8 in 0..255 or float32 in [0,
    1]; `y`: N, int64.

    `index` (N, int64): where each image stands in its source data set, the official training set
    first, then the test set; None for images that come from no data set. Seeds that draw other
    splits are compared image by image through it.
    """

    x: Tensor
    y: Tensor
    index: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or len(self.x) != len(self.y):
            raise ValueError(
                f"images {tuple(self.x.shape)} and labels {tuple(self.y.shape)} are not N x C x H x W and N"
            )
        if self.index is not None and self.index.shape != self.y.shape:
            raise ValueError(f"{tuple(self.index.shape)} indices for {len(self.y)} images")

    def __len__(self) -> int:
        return len(self.y)

    def images(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Returns the chosen images as float32 in [0, 1]."""
        x = self.x[index]
        return x.float().div_(255) if x.dtype == torch.uint8 else x

    def select(self, index: Tensor) -> Split:
        """Returns the chosen images with their labels, as a split of its own."""
        return Split(self.x[index], self.y[index], None if self.index is None else self.index[index])

    def clone(self) -> Split:
        """Returns the same images and labels in memory of their own."""
        return Split(self.x.clone(), self.y.clone(), None if self.index is None else self.index.clone())

    def to(self, device: torch.device | str) -> Split:
        """Returns the split on `device` (one transfer)."""
        return Split(
            self.x.to(device), self.y.to(device), None if self.index is None else self.index.to(device)
        )

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images in order, `size` at a time, as float32 in [0, 1], with their labels."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.images(part), self.y[part]

    def digest(self) -> str:
        """Returns the SHA-256 of type, shape, images and labels."""
        tensors = (tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in (self.x, self.y))
        return of_parts((f"{self.x.dtype}{tuple(self.x.shape)}".encode(), *tensors))

    def __add__(self, other: Split) -> Split:
        x = [self.x, other.x] if self.x.dtype == other.x.dtype else [self.images(), other.images()]
        index = None if self.index is None or other.index is None else torch.cat([self.index, other.index])
        return Split(torch.cat(x), torch.cat([self.y, other.y]), index)


@dataclass(frozen=True)
class Robustness:
    """It holds the constants of DL2's RobustnessT: ||x - x'||_2 < eps1 => KL(p(x) || p(x')) < eps2;
    `weight` of the loss; where they come from.
    """

    eps1: float
    eps2: float
    weight: float
    source: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Four disjoint splits of one data set, drawn by `seed` and the same for every method.

    `scope` says what a claim over seeds holds over ("splits of these 1,797 images"); `digests` are
    SHA-256 sums of the splits.
    """

    name: str
    classes: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    train: Split
    repair: Split
    validation: Split
    test: Split
    robustness: Robustness
    digests: Mapping[str, str]
    notes: tuple[str, ...] = ()
    seed: int = 0
    scope: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Returns channels, height, width."""
        c, h, w = self.train.x.shape[1:] if len(self.train) else self.test.x.shape[1:]
        return int(c), int(h), int(w)


@dataclass(frozen=True)
class Recipe:
    """How a subject was trained, so that submodels and further training can follow it.

    `schedule`: "step" is x .1 at 50 % and x .01 at 75 % of the epochs; "onecycle" rises to `lr` at
    30 % and falls to 0; "cosine" falls from `lr` to 0; "constant" stays. `early` is the share of
    the epochs after which the early checkpoint is kept.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 64
    epochs: int = 60
    schedule: Literal["step", "onecycle", "cosine", "constant"] = "step"
    augment: Literal["none", "shift", "crop+flip"] = "none"
    label_smoothing: float = 0.0
    early: float = 0.05


@dataclass(frozen=True, eq=False)
class KnownFault:
    """Describes a fault with a known cause that was put into a subject (airepair/faults). It knows
    test inputs and never reaches a Task.

    facts      for the record, JSON values: name, severity, what else decides it, and the clean
               twin's scores and training images
    spoiled    which test inputs it spoils: booleans over the test split, or inputs of their own
               (with a trigger on them)
    others     the test inputs that it leaves alone, likewise (for an environment: the clean ones)
    twin       accuracy of the clean twin on the spoiled inputs; None if there is none (a network
               that was brought)
    target     the class that a trigger leads to
    damaged    parameter -> booleans of its shape: the weights that were changed
    """

    facts: Mapping[str, Any]
    spoiled: Tensor | Split
    others: Tensor | Split
    twin: float | None
    target: int | None = None
    damaged: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """Holds a trained model under repair: where it came from, what it has seen, and the data set divided
    accordingly.

    `trained_on`: "split of seed 3" (our train split of that seed), index ranges such as "0..39999",
    "official train" or "unknown". `origin` goes to the record as it stands (JSON values only);
    `checkpoints` holds earlier states of the same training. `pair`: the class pair of the column's
    confusion metrics, chosen on validation of seed 0; () if no two classes were confused there,
    None if it is this subject that chooses (seed 0 itself).
    """

    name: str
    module: nn.Module
    dataset: Dataset
    recipe: Recipe
    trained_on: str
    origin: Mapping[str, Any]
    checkpoints: Mapping[str, nn.Module] = field(default_factory=dict)
    environment: Transform | None = None
    pool: Split | None = None
    fault: KnownFault | None = None
    pair: tuple[int, int] | tuple[()] | None = None


@dataclass(frozen=True)
class Limit:
    """What a repair may use: training images (forward and backward), seconds, bytes of memory.

    None is no limit.
    """

    images: int | None = None
    seconds: float | None = None
    bytes: int | None = None


class Meter:
    """Counts images through a module and its copies: `backward` with gradients on, `forward` without.

    The harness hooks it to the root of the module that a method gets. The hook travels with
    `copy.deepcopy`, so submodels are counted too. Code that runs many copies in one batched call
    (`torch.func`) adds the rest with `add`. `selection` are training images with which a control
    chose its own options (`choosing`): they are reported apart, since the options of a method were
    chosen before its cell.

    Counts are read, not written. What is done again because it did not fit into memory is taken
    back with `rewind`, and the record says how many training images were (`taken_back`).
    """

    def __init__(self) -> None:
        self._forward = self._backward = self._selection = self._taken_back = 0

    @property
    def forward(self) -> int:
        """Counts the images through forward only."""
        return self._forward

    @property
    def backward(self) -> int:
        """Counts the images through forward and backward."""
        return self._backward

    @property
    def selection(self) -> int:
        """Counts the training images with which a control chose its options."""
        return self._selection

    @property
    def taken_back(self) -> int:
        """Counts the training images that were counted and are not any more."""
        return self._taken_back

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.add(len(args[0]), training=torch.is_grad_enabled())

    def add(self, images: int, *, training: bool) -> None:
        """Counts `images` more. ValueError for fewer than none."""
        if images < 0:
            raise ValueError(f"a meter counts what was used: {images} images")
        if training:
            self._backward += images
        else:
            self._forward += images

    def mark(self) -> tuple[int, int]:
        """Where the counts stand, for `rewind`."""
        return self._forward, self._backward

    def rewind(self, mark: tuple[int, int], *, computed: bool = True) -> None:
        """Takes back what was counted since: it is done again, or was not `computed` at all (a CUDA
        graph that could not be recorded).
        """
        self._taken_back += max(0, self._backward - mark[1]) if computed else 0
        self._forward, self._backward = mark

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Counts the training images within the block count as `selection`.

        For controls alone: the conformance kit refuses it in a method.
        """
        before = self.backward
        try:
            yield
        finally:
            self._selection += self._backward - before
            self._backward = before


def meters_of(module: nn.Module) -> list[Meter]:
    """Returns the meters on the module's root, where the harness puts them."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, Meter)]


def without_meter(module: Module, meter: Meter | None = None) -> Module:
    """Returns the module with this meter, or all of them, taken off every part (in place)."""
    for part in module.modules():
        for key in [
            k
            for k, hook in part._forward_pre_hooks.items()
            if isinstance(hook, Meter) and meter in (None, hook)
        ]:
            del part._forward_pre_hooks[key]
    return module


def metered(module: Module, meter: Meter) -> Module:
    """Returns the module with the meter on its root, once: an earlier step may have wrapped the
    root that carried it.
    """
    without_meter(module, meter).register_forward_pre_hook(meter)
    return module


def stream(purpose: int, seed: int, part: int = 0) -> int:
    """Returns the seed of a generator (32 bits) for one `purpose` of a cell's `seed`; each `part`
    of that purpose has a stream of its own.

    numpy's SeedSequence mixes the three, so that neighbouring seeds and purposes give unrelated
    streams. (torch's CPU generator takes the lowest 32 bits of what it is given: seeds that differ
    above them would be the same stream.)
    """
    return int(np.random.SeedSequence([purpose, seed, part]).generate_state(1)[0])


def _silent(*_: Any) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Task:
    """Holds all that a method sees. There is no test split here: leaking it is a type error, not a matter of
    discipline.

    module       the method's own copy; it may be changed in place
    train        what the subject was trained on; may be empty (a method that needs it raises
                 Unsupported)
    failing      inputs of the repair split that the subject gets wrong, with their labels: may be
                 learned from
    passing      those that it gets right: not to be broken, never labelled training data
    unlabelled   the repair split's images without labels (N x C x H x W, float in [0, 1])
    validation   selects and stops
    pool         extra labelled data to select from, or None
    environment  the seeded corruption under which the subject fails, or None (of these six a method
                 gets what it states in `sources`, and nothing of the others)
    checkpoints  earlier states of the same training, by name ("early")
    recipe       how the subject was trained, its augmentation included
    progress     progress(phase, step, steps, loss): reports upwards
    keep         keep(phase, module): hands in an intermediate model, examined after the clock has
                 stopped
    note         note(text): what a reader of the record must know (a proof, a fall-back, what was
                 left out)
    logs         a folder for log files, which are kept beside the record; None if nothing is kept
    column_budget  for a control: the largest budget that a method of its column declares, in images
                 (airepair/runner/column_budget.py); None if none is known
    held_out     a fifth of the inputs that the user gave, for a method that chooses among states:
                 never learned from (airepair/training/best_state.py); None if none were held out
    """

    module: nn.Module
    train: Split
    failing: Split
    passing: Split
    unlabelled: Tensor
    validation: Split
    classes: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    robustness: Robustness
    recipe: Recipe
    seed: int
    pool: Split | None = None
    environment: Transform | None = None
    checkpoints: Mapping[str, nn.Module] = field(default_factory=dict)
    limit: Limit = Limit()
    meter: Meter = field(default_factory=Meter)
    progress: Callable[[str, int, int, float], None] = _silent
    keep: Callable[[str, nn.Module], None] = _silent
    note: Callable[[str], None] = _silent
    logs: Path | None = None
    column_budget: int | None = None
    held_out: Split | None = None

    @property
    def device(self) -> torch.device:
        """Returns the device that every tensor of the task is on."""
        return self.validation.x.device

    @property
    def labelled(self) -> Split:
        """Returns all that a method may learn from with labels: train and failing."""
        return self.train + self.failing if len(self.train) else self.failing

    def generator(self, salt: int = 0) -> torch.Generator:
        """Returns a CPU generator of the cell's seed; another `salt` gives an independent stream."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + salt)


Category = Literal["control", "retraining", "direct weight modification", "architecture extension"]


@runtime_checkable
class Method(Protocol):
    """Repairs a task: a frozen dataclass whose fields are its options (see options.py), with defaults.

    sources    what it learns from; the harness hands over nothing else, and its control learns from
               the same. A class attribute, or a property where options decide
    ablations  name -> options in which only the method's own idea is off, and which train on as
               many images; a control has none
    """

    name: ClassVar[str]
    category: ClassVar[Category]
    paper: ClassVar[str]
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]]

    @property
    def sources(self) -> frozenset[Source]:
        """Names what the method learns from; see above."""
        ...

    def budget(self, task: Task) -> int:
        """Returns the most images that its repair of this task sends through forward and backward,
        known before; 0 if it trains nothing.

        The task's module may be asked (no hook counts that), never changed. Unsupported if the
        method refuses the task.
        """
        ...

    def repair(self, task: Task) -> nn.Module:
        """Returns the repaired module, with the same interface; or raises Unsupported("why")."""
        ...
