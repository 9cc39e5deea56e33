"""K submodels trained in one batched call a step: their parameters are stacks, `torch.func.vmap` runs the architecture once over all.

Each submodel draws its batches from its own generator, as `training.fit` does, so without augmentation the results equal those of training
one by one up to rounding. Augmentation is one call for all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from airepair.augment import augmentation
from airepair.recorded import Recorded, Work
from airepair.submodels.stack import Stack, floating
from airepair.submodels.windows import images, starts
from airepair.training import optimizer_of, rate
from airepair.types import Meter, Recipe, Split

LARGE = 2**20  # floats


class Together:
    """K copies of `start` with stacked parameters, one optimiser over the stacks, and one training step for all."""

    def __init__(self, start: nn.Module, count: int, recipe: Recipe) -> None:
        self.module = without_meter(copy.deepcopy(start)).train()
        self.recipe, self.names = recipe, floating(self.module)
        self.parameters = {n: nn.Parameter(_repeated(p, count), p.requires_grad) for n, p in self.module.named_parameters()}
        self.buffers = {n: _repeated(b, count) for n, b in self.module.named_buffers()}
        # A stack that no cache holds is read once by a fused step, five times otherwise.
        large = sum(p.numel() for p in self.parameters.values()) > LARGE
        self.optimizer = optimizer_of(nn.ParameterList(self.parameters.values()), recipe, fused=large)
        self._losses = vmap(self._loss, randomness="different")
        self.work: Work = self._step
        if self.optimizer.param_groups[0]["params"][0].is_cuda:  # twelve times one by one, eight without a graph (gpu.md)
            self.work, self.rate = Recorded(self._step), torch.zeros((), device=self.optimizer.param_groups[0]["params"][0].device)
            self.optimizer.param_groups[0]["lr"] = self.rate

    def _loss(self, parameters: dict[str, nn.Parameter], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(self.module, {**parameters, **buffers}, (x,))
        return nn.functional.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)

    def step(self, x: Tensor, y: Tensor, done: float) -> Tensor:
        """One optimiser step of all K on their own batches (x: K x B x C x H x W, y: K x B); their mean loss, detached."""
        if isinstance(self.work, Recorded):
            self.rate.fill_(rate(self.recipe, done))
        else:
            self.optimizer.param_groups[0]["lr"] = rate(self.recipe, done)
        return self.work(x, y)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        losses = self._losses(self.parameters, self.buffers, x, y)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # the submodels share nothing: the gradient of the sum is each one's own
        self.optimizer.step()
        return losses.detach().mean()

    def stack(self) -> Stack:
        """Their floating-point tensors."""
        return {n: (self.parameters[n].detach() if n in self.parameters else self.buffers[n]) for n in self.names}


def fit_together(
    start: nn.Module,
    train: Split,
    parts: Sequence[slice],
    recipe: Recipe,
    generators: Sequence[torch.Generator],
    epoch: Callable[[int, int, float], None] = lambda *_: None,
) -> Stack:
    """Trains one copy of `start` on each part (all of one size); `epoch(number, images, loss)` hears of every epoch."""
    group, change = Together(start, len(parts), recipe), augmentation(recipe.augment)
    size = parts[0].stop - parts[0].start
    first = torch.tensor([part.start for part in parts])[:, None]
    batches = starts(size, recipe)
    each = images(size, recipe)
    for number in range(recipe.epochs):
        order = first + torch.stack([torch.randperm(size, generator=g) for g in generators])
        total = torch.zeros((), device=train.x.device)
        for at in batches:
            index = order[:, at : at + recipe.batch_size].to(train.x.device)
            x = change(train.x.index_select(0, index.flatten()), generators[0]).unflatten(0, index.shape)
            x = x.float().div_(255) if x.dtype == torch.uint8 else x
            total += group.step(x, train.y[index], number / recipe.epochs + at / each)
        epoch(number + 1, len(parts) * each // recipe.epochs, float(total) / len(batches))
    return group.stack()


def without_meter(module: nn.Module) -> nn.Module:
    """The module with the counting hook taken off (in place): inside a batched call it would count one model of K."""
    for key in [k for k, hook in module._forward_pre_hooks.items() if isinstance(hook, Meter)]:
        del module._forward_pre_hooks[key]
    return module


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.detach().expand(count, *tensor.shape).clone()
