"""K submodels trained in one batched call a step: their parameters are stacks, `torch.func.vmap` runs
the architecture once over all.

Each submodel draws its batches from its own generator, as `training.fit` does, so without
augmentation the results equal those of training one by one up to rounding. Augmentation is one call
for all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from airepair.methods.apricot.stack import Stack, floating
from airepair.training.best_state import optimizer_of, rate
from airepair.training.step import Stepper, augmentation
from airepair.types import Recipe, Split, without_meter

LARGE = 2**20  # floats


class Together:
    """K copies of `start` with stacked parameters, one optimiser over the stacks, and one training
    step for all; a context as Stepper is.
    """

    def __init__(
        self, start: nn.Module, train: Split, recipe: Recipe, generators: Sequence[torch.Generator]
    ) -> None:
        self.module, count = without_meter(copy.deepcopy(start)).train(), len(generators)
        self.train, self.recipe, self.names = train, recipe, floating(self.module)
        self.parameters = {
            n: nn.Parameter(_repeated(p, count), p.requires_grad) for n, p in self.module.named_parameters()
        }
        self.buffers = {n: _repeated(b, count) for n, b in self.module.named_buffers()}
        # A stack that no cache holds is read once by a fused step, five times otherwise.
        large = sum(p.numel() for p in self.parameters.values()) > LARGE
        stacks = nn.ParameterList(self.parameters.values())
        self._losses = vmap(self._loss, randomness="different")
        # On CUDA twelve times as fast as one by one, eight without a graph (measured on an H100).
        self.stepper = Stepper(
            stacks,
            optimizer_of(stacks, recipe, fused=large),
            # The submodels share nothing: the gradient of the sum is each one's own.
            lambda _, x, y: self._losses(self.parameters, self.buffers, x, y).sum(),
            augmentation(recipe.augment),
            generators[0],
            plain=True,
            parts=False,
            precise=True,  # vmap stops under bf16 autocast (expected scalar type BFloat16 but found Float)
        )

    def __enter__(self) -> Self:
        self.stepper.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stepper.__exit__(*error)

    def _loss(
        self, parameters: dict[str, nn.Parameter], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        logits = functional_call(self.module, {**parameters, **buffers}, (x,))
        return nn.functional.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)

    def side_by_side(self) -> AbstractContextManager[Any]:
        """One call needs no streams."""
        return nullcontext()

    def step(self, index: Tensor, done: float) -> tuple[Tensor]:
        """Takes one optimiser step of all K on their own images (index: K x B) and returns their
        mean loss, detached.
        """
        return (self.stepper(self.train, index, rate(self.recipe, done)) / len(index),)

    def stack(self) -> Stack:
        """Returns their floating-point tensors."""
        return {
            n: (self.parameters[n].detach() if n in self.parameters else self.buffers[n]) for n in self.names
        }


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.detach().expand(count, *tensor.shape).clone()
