"""Training a module on a split with a recipe (the loop: loop.py) and keeping the best state: what
fine-tuning and the methods that train call.

Data stays on its device, batches are drawn by a seeded permutation, augmentation is batched. The
state that remains is the one with the best validation accuracy over all epochs, the start included,
ties by validation loss (protocol: "Which state is returned"). Given inputs (`--failing`) are of a
kind that validation may not hold: poison, a watermark, corrupted images. Chosen by validation alone,
the start would win against every state that repairs them, so some are held out and count as much
(docs/protocol.md, "Given failing inputs").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from airepair.errors import OutOfBudget
from airepair.evaluation.exam import Exam, sit
from airepair.host.arithmetic.exact import cosine
from airepair.host.arithmetic.precision import precision_of
from airepair.training.loop import Course, Epoch, batches, images_of, passes
from airepair.training.step import Stepper, augmentation
from airepair.types import Recipe, Split, Task

# loss(module, x, y) of one batch: x float in [0, 1] and augmented, y int64.
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear: every epoch, and the best state so far when `marks[name]` images
    have been seen (to the batch).

    Marks that the same batch reaches are one state, under the name of the last.
    """

    progress: Callable[[str, int, int, float], None] = lambda *_: None
    epoch: Callable[[Epoch], None] = lambda _: None
    keep: Callable[[str, nn.Module], None] = lambda *_: None
    marks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CrossEntropy:
    """It is the mean cross-entropy of the module's logits.

    It depends on the batch alone, so a step on it may be recorded (step.py).
    """

    label_smoothing: float = 0.0

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x), y, label_smoothing=self.label_smoothing)


cross_entropy = CrossEntropy()


def snapshot(module: nn.Module) -> State:
    """Returns a copy of all parameters and buffers."""
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def optimizer_of(module: nn.Module, recipe: Recipe, fused: bool = False) -> torch.optim.Optimizer:
    """Returns the recipe's optimiser over the parameters that require a gradient; `fused`: one
    kernel for all tensors, as always on CUDA, for Adam and for networks in channels_last
    (airepair/host/arithmetic/precision.py).

    The other forms of Adam on the CPU take a square root whose last bit depends on the processor
    (airepair/host/arithmetic/exact.py).
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    cuda = bool(parameters) and parameters[0].is_cuda
    one = True if fused or cuda or precision_of(module) != "plain" else None
    if recipe.optimizer == "adam":
        return torch.optim.Adam(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True, capturable=cuda
        )
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(
        parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov, fused=one
    )


def rate(recipe: Recipe, done: float) -> float:
    """Returns the learning rate when the share `done` of all steps is behind."""
    if recipe.schedule == "step":
        return recipe.lr * (0.01 if done >= 0.75 else 0.1 if done >= 0.5 else 1.0)
    if recipe.schedule == "onecycle":
        return recipe.lr * (
            0.04 + 0.96 * done / 0.3 if done < 0.3 else 0.5 * (1 + cosine(math.pi * (done - 0.3) / 0.7))
        )
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + cosine(math.pi * done))
    return recipe.lr


@dataclass(frozen=True, eq=False)
class Choice:
    """What states are examined on.

    `held_out` are given inputs that the repair does not learn from; None if none were held out.
    """

    validation: Split
    held_out: Split | None = None

    @property
    def words(self) -> str:
        """What it is, for a note."""
        return (
            "validation accuracy"
            if self.held_out is None
            else "validation accuracy and held-out repair rate, averaged,"
        )

    def exam(self, module: nn.Module) -> tuple[tuple[float, float], Exam]:
        """What the better of two states has more of (see Exam.standing), and the exam on validation."""
        found = sit(module, self.validation, quick=True)
        accuracy, minus_loss = found.standing
        if self.held_out is not None:
            accuracy = (accuracy + sit(module, self.held_out, quick=True).accuracy) / 2
        return (accuracy, minus_loss), found

    def standing(self, module: nn.Module) -> tuple[float, float]:
        """Returns the same without the exam."""
        return self.exam(module)[0]


def choice_of(task: Task) -> Choice:
    """Returns what a method that chooses among states chooses by."""
    return Choice(task.validation, task.held_out)


def chooses(method: object) -> bool:
    """Whether a method says that it keeps one of several states, chosen by `choice_of(task)`."""
    return bool(getattr(method, "chooses", False))


class Best:
    """It keeps the best state so far by a choice, ties by validation loss."""

    def __init__(self, module: nn.Module, choice: Choice | Split) -> None:
        self.module, self.choice = module, Choice(choice) if isinstance(choice, Split) else choice
        self.key = self.choice.standing(module)
        self.state = snapshot(module)

    def offer(self) -> bool:
        """Examines the module as it stands; keeps it if it is strictly better."""
        self.last, exam = self.choice.exam(self.module)
        self.accuracy = exam.accuracy
        if self.last <= self.key:
            return False
        self.key, self.state = self.last, snapshot(self.module)
        return True

    def restore(self) -> None:
        """Puts the best state back into the module."""
        self.module.load_state_dict(self.state)


def fit(
    module: nn.Module,
    data: Split,
    choice: Choice | Split | None,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    phase: str = "training",
    loss: Loss = cross_entropy,
    weights: Tensor | None = None,
    watch: Watch = Watch(),
) -> int:
    """Trains `module` in place and returns the images that went through forward and backward.

    With `choice` (or a validation split alone) the best state remains (the start included), without
    it the last. `weights` (N) draws images with replacement.
    """
    if not len(data):
        return 0
    best = Best(module, choice) if choice is not None else None
    images, marks = 0, dict(watch.marks)

    def order() -> list[Tensor]:
        module.train()
        return batches(len(data), recipe.batch_size, generator, weights)

    def step(index: Tensor, done: float) -> tuple[Tensor]:
        nonlocal images
        found = stepper(data, index, rate(recipe, done))
        images += len(index)
        if reached := [m for m, count in marks.items() if images >= count]:
            for name in reached:
                del marks[name]
            _keep_best(module, best, reached[-1], watch)
        return (found,)

    def examine(_: int) -> float | None:
        if best is None:
            return None
        best.offer()
        return best.accuracy

    course = Course(recipe.epochs, images_of(len(data), recipe.batch_size), order)
    change, plain = augmentation(recipe.augment), isinstance(loss, CrossEntropy)
    with (
        until_spent(best),
        Stepper(module, optimizer_of(module, recipe), loss, change, generator, plain=plain) as stepper,
    ):
        for epoch in passes(course, step, examine):
            watch.progress(phase, epoch.number, recipe.epochs, epoch.loss)
            watch.epoch(epoch)
    if best is not None:
        best.restore()
    module.eval()
    return images


@contextmanager
def until_spent(best: Best | None) -> Iterator[None]:
    """Ends the block where the budget of training images is used up; the last state is still offered.

    Without `best` the error goes on.
    """
    try:
        yield
    except OutOfBudget:
        if best is None:
            raise
        best.offer()


def _keep_best(module: nn.Module, best: Best | None, name: str, watch: Watch) -> None:
    """Hands in the best state so far, the present one included, and goes on from the present one."""
    current = snapshot(module)
    if best is not None:
        best.offer()
        best.restore()
    watch.keep(name, module)
    module.load_state_dict(current)
