"""The one training loop: what it hands to a step, what it reports, how it goes on, and that nothing
trains beside it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor

from airepair.training.loop import Course, Epoch, Resume, batches, images_of, passes, split

SOURCE = Path(__file__).parents[2] / "airepair"
TEN = Course(2, 10, lambda: split(torch.arange(10), 4))


def test_a_step_hears_how_far_training_has_come() -> None:
    """The share of all images that were seen before the batch."""
    shares: list[float] = []

    def step(index: Tensor, done: float) -> tuple[Tensor]:
        shares.append(done)
        return (torch.tensor(1.0),)

    assert [e.images for e in passes(TEN, step)] == [10, 20]
    assert shares == pytest.approx([0, 0.2, 0.4, 0.5, 0.7, 0.9])


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    """Batches of 4, 4 and 2 images count 4, 4 and 2 times; of several models the mean over the models."""
    epoch = next(passes(TEN, lambda index, _: (index.double().mean(),)))
    assert epoch.loss == pytest.approx(4.5)
    pair = next(passes(TEN, lambda index, _: (index.double().mean(), torch.tensor(0.5))))
    assert pair.loss == pytest.approx(2.5)


def test_a_pass_without_a_batch_ends_the_course() -> None:
    """A method that stops when it is done draws no further batch."""
    orders = iter([[torch.arange(3)], [torch.arange(3)], []])
    epochs = list(passes(Course(9, 3, lambda: next(orders)), lambda *_: (torch.tensor(0.0),)))
    assert [e.number for e in epochs] == [1, 2]


def test_a_course_goes_on_behind_the_epochs_it_has() -> None:
    """Only what is missing runs, at the share where it belongs, and what is filed begins with the
    earlier epochs.
    """
    earlier, filed, shares = Epoch(1, 10, 0.5, 0.25), [], []

    def step(index: Tensor, done: float) -> tuple[Tensor]:
        shares.append(done)
        return (torch.tensor(2.0),)

    found = list(
        passes(
            TEN, step, lambda number: number / 4, Resume([earlier], save=lambda h, _: filed.append(list(h)))
        )
    )
    assert found == [Epoch(2, 20, 2.0, 0.5)]
    assert filed == [[earlier, *found]]
    assert shares == pytest.approx([0.5, 0.7, 0.9])


@pytest.mark.parametrize("n", [1, 2, 3, 12, 13, 14])
def test_a_last_batch_of_one_image_is_dropped_and_not_counted(n: int) -> None:
    """Batch norm has no variance of one image; only where there is no other image it stays.

    For K models at once, too.
    """
    sizes = [len(b) for b in batches(n, 4, torch.Generator().manual_seed(0))]
    assert sum(sizes) == images_of(n, 4)
    assert 1 not in sizes or n == 1
    assert [b.shape[1] for b in split(torch.arange(2 * n).reshape(2, n), 4)] == sizes


def test_nothing_trains_beside_the_loop() -> None:
    """Gradients are put in place, and an optimiser steps, in training/step.py alone; the canary
    stands below it and tries torch itself.
    """
    callers = {
        f"{file.relative_to(SOURCE)}: {ast.unparse(node)}"
        for file in SOURCE.rglob("*.py")
        if file != SOURCE / "host" / "arithmetic" / "canary.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "backward"
        or (node.func.attr == "step" and not node.args)  # an optimiser's step takes none
    }
    assert callers == {"training/step.py: value.backward()", "training/step.py: self.optimizer.step()"}
