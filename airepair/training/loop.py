"""The one training loop: passes over batches of images. Baselines, fine-tuning, submodels and every
method that
trains go through it.

The loop knows when a batch is due and how far training has come; `step` does the arithmetic
(step.py), `order` draws the batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# step(index, done) on the images of `index` when the share `done` of all images has been seen; the
# detached loss of each model that learns.
Step = Callable[[Tensor, float], Iterable[Tensor]]
# inside(epoch, images of this epoch so far, of how many, mean loss): about once a second.
Inside = Callable[[int, int, int, float], None]


@dataclass(frozen=True)
class Epoch:
    """Where training stands after an epoch: `images` through forward and backward so far, mean
    loss, validation
    accuracy (None: not examined).
    """

    number: int
    images: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class Course:
    """`epochs` passes over `images` images each. `order` gives the batches of the next pass: indices
    (B, or K x B for K models at once). A pass without a batch ends the course.
    """

    epochs: int
    images: int
    order: Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Position:
    """Where training stands within an epoch: the batches that are left, and (loss, images) of each
    that is done.
    """

    rest: Sequence[Tensor]
    losses: Sequence[tuple[Tensor, int]]


@dataclass(frozen=True)
class Resume:
    """It is a training that goes on: the epochs that earlier processes have run, and where they
    stopped in the next one.

    `save` gets the state after each new epoch (without a position), and about once a second within one.
    """

    history: Sequence[Epoch] = ()
    position: Position | None = None
    save: Callable[[Sequence[Epoch], Position | None], None] = lambda *_: None


def passes(
    course: Course,
    step: Step,
    examine: Callable[[int], float | None] = lambda _: None,
    resume: Resume = Resume(),
    inside: Inside = lambda *_: None,
) -> Iterator[Epoch]:
    """Runs the course from where `resume` stands and yields each epoch; `examine(number)` gives its
    accuracy.
    """
    history, begun = list(resume.history), resume.position
    total, reported = course.epochs * course.images, time.monotonic()
    for number in range(len(history) + 1, course.epochs + 1):
        order = begun.rest if begun else course.order()
        losses = list(begun.losses) if begun else []
        done, begun = sum(images for _, images in losses), None
        for at, index in enumerate(order, 1):
            share = ((number - 1) * course.images + done) / total
            losses += [(loss, index.shape[-1]) for loss in step(index, share)]
            done += index.shape[-1]
            if time.monotonic() - reported > 1:
                reported = time.monotonic()
                inside(number, done, course.images, mean(losses))
                if isinstance(order, Sequence):  # batches that are drawn as they are needed cannot be kept
                    resume.save(history, Position(order[at:], losses))
        if not losses:
            return
        history.append(Epoch(number, number * course.images, mean(losses), examine(number)))
        resume.save(history, None)
        yield history[-1]


def mean(losses: Sequence[tuple[Tensor, int]]) -> float:
    """Returns the mean of (loss, number of images), weighted by the images.

    Summed on the device: one wait instead of one per batch.
    """
    total = torch.zeros((), device=losses[0][0].device)
    for loss, images in losses:
        total.add_(loss, alpha=images)
    return float(total) / sum(images for _, images in losses)


def split(order: Tensor, size: int) -> list[Tensor]:
    """Returns the order (N, or K x N) as batches of `size`; a last batch of one image is dropped
    (batch norm), unless there is no other.
    """
    return [part for part in order.split(size, dim=-1) if part.shape[-1] > 1 or order.shape[-1] == 1]


def batches(n: int, size: int, generator: torch.Generator, weights: Tensor | None = None) -> list[Tensor]:
    """Returns the indices of one epoch, shuffled, or drawn with replacement by `weights`."""
    if weights is None:
        return split(torch.randperm(n, generator=generator), size)
    return split(torch.multinomial(weights, n, True, generator=generator), size)


def images_of(n: int, size: int) -> int:
    """How many images an epoch over n images in batches of `size` takes."""
    return n - (1 if n > 1 and n % size == 1 else 0)
