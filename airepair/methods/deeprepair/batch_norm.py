"""w-bn's second half of a step: images of the target classes that leave their mark in the last
batch-norm layers' running statistics only.

The published code concatenates both halves and replaces batch norm by a class of its own. Here the
target half is a pass of its own, without autograd, through hooks that come off at the end: the
module keeps its classes and interface, and the step does not cost double.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from airepair.training.best_state import Loss
from airepair.types import Split, Transform

LAST_LAYERS = (
    3  # batch-norm layers whose running statistics take part of the target half's (Zhong, Tian et al.)
)


def norms(module: nn.Module) -> list[_BatchNorm]:
    """Returns the batch-norm layers with running statistics, in the order of definition."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns, per channel: mean, biased variance (to normalise with), unbiased variance (that
    running statistics take).
    """
    variance, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
    n = x.numel() // x.shape[1]
    return mean, variance, variance * n / max(1, n - 1)


class TargetHalf:
    """Normalises the target half with the normal half's statistics and mixes `ratio` * normal + (1 -
    ratio) * target in the last layers.

    `both` adds its cross-entropy, as AIREPAIR's patch does (autograd is then on).
    """

    def __init__(
        self,
        module: nn.Module,
        targets: Split,
        ratio: float,
        both: bool,
        change: Transform,
        generator: torch.Generator,
    ) -> None:
        self.targets, self.ratio, self.both, self.change, self.generator = (
            targets,
            ratio,
            both,
            change,
            generator,
        )
        self.layers = norms(module)
        self.last = set(self.layers[-LAST_LAYERS:])
        self.normal: dict[nn.Module, tuple[Tensor, Tensor, Tensor]] = {}
        self.second = False
        self.hooks = [layer.register_forward_hook(self._hook) for layer in self.layers]

    def remove(self) -> None:
        """Takes the hooks off: the module's interface is as before."""
        for hook in self.hooks:
            hook.remove()

    def _hook(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        assert isinstance(layer, _BatchNorm)
        x = args[
            0
        ].float()  # moments of bf16 numbers (airepair/host/arithmetic/precision.py) would be rounded to bf16
        if not self.second:
            if layer.training:
                mean, variance, unbiased = moments(x)
                self.normal[layer] = (
                    (mean, variance, unbiased)
                    if self.both
                    else (mean.detach(), variance.detach(), unbiased.detach())
                )
            return None
        mean, variance, unbiased = self.normal[layer]
        if layer in self.last:
            self._mix(layer, mean, unbiased, x)
        shape = [1, -1] + [1] * (x.ndim - 2)
        normalised = (x - mean.view(shape)) * (variance.view(shape) + layer.eps).rsqrt()
        return (
            normalised
            if layer.weight is None
            else normalised * layer.weight.view(shape) + layer.bias.view(shape)
        )

    @torch.no_grad()
    def _mix(self, layer: _BatchNorm, mean: Tensor, unbiased: Tensor, x: Tensor) -> None:
        """The layer took momentum * normal; its due is momentum * (ratio * normal + (1 - ratio) * target)."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        target_mean, _, target_variance = moments(x)
        tracked = 1 if layer.num_batches_tracked is None else max(1, int(layer.num_batches_tracked))
        part = (layer.momentum if layer.momentum is not None else 1 / tracked) * (1 - self.ratio)
        # New tensors: autograd keeps the old ones for the normal half's backward pass.
        layer.running_mean = layer.running_mean + part * (target_mean - mean)
        layer.running_var = layer.running_var + part * (target_variance - unbiased)

    def after(self, normal: Loss) -> Loss:
        """Returns the loss of a step: `normal`'s, and after its forward pass that of the target
        half (with `both` the mean of the two).
        """

        def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            value = normal(module, x, y)
            index = torch.randint(len(self.targets), (len(y),), generator=self.generator).to(y.device)
            logits = self._pass(module, self.change(self.targets.images(index), self.generator))
            return (
                (value + nn.functional.cross_entropy(logits, self.targets.y[index])) / 2
                if self.both
                else value
            )

        return loss

    def _pass(self, module: nn.Module, x: Tensor) -> Tensor:
        self.second = True
        for layer in self.layers:
            layer.eval()  # its own output is replaced, and its statistics must not move
        try:
            with torch.set_grad_enabled(self.both):
                logits: Tensor = module(x)
                return logits
        finally:
            self.second = False
            for layer in self.layers:
                layer.train()
