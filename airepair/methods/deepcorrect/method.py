"""deepcorrect: correction units on the filters that a distortion hurts most (Borkar and Karam, TIP 2019).

Idea: a filter matters if swapping its clean feature map into the pass of the distorted image
removes errors; priority = mean over distortion levels of (error - error with the swap) / error. The
top share beta of the filters of each of the first convolutions gets a residual correction unit (BN,
then twice 1x1 conv, BN, ReLU, 3x3 conv, BN, ReLU, then 1x1 conv, plus identity), and only the units
are trained, on batches that are half clean and half distorted, with an L1 penalty. A unit starts as
the identity.

Needs pairs of clean and distorted images: the subject's environment applied to its training data,
or `distortion=blur|noise` (the paper's Gaussian blur and white noise, at its six levels) or the
name of a corruption of airepair.corruptions (at its five severities). Adds units; every other
weight and statistic stays. Refuses a network without Conv2d, a task without training data, and one
with neither environment nor `distortion`.

Defaults are those of the authors' code (github.com/tsborkar/DeepCorrect: beta .5, units 64 wide, SGD with
Nesterov momentum .9, batch 250, 40 epochs, L1 1e-5; the learning rate is the published one for more than four
layers, .01: with that for fewer, .1, the toy network's units diverged). The rate falls to a tenth at half and
a hundredth at three quarters (published: a tenth every 10 epochs); batch norms above the units stay frozen.
With an environment the failing inputs, distorted as they are, join each batch; with `distortion`, validation
is half distorted too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import evaluating
from airepair.methods.deepcorrect.distortions import levels_of
from airepair.models.layers import Run, runs, weighted
from airepair.options import Space, option
from airepair.search.intervene import Intervened, channelwise
from airepair.search.sampling import drawn
from airepair.training.best_state import Choice, Watch, cross_entropy, fit
from airepair.types import Category, Recipe, Source, Split, Task, Transform

NO_FILTERS = "no Conv2d layer whose filters could be corrected"


class CorrectionUnit(nn.Sequential):
    """What is added to C feature maps: C -> `width` -> ... -> C; its last layer starts at 0."""

    def __init__(self, channels: int, width: int) -> None:
        parts: list[nn.Module] = [nn.BatchNorm2d(channels)]
        for inputs in (channels, width):
            parts += [nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
            parts += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        last = nn.Conv2d(width, channels, 1)
        super().__init__(*parts, last)
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)


class Corrected(nn.Module):
    """It is a convolution whose output channels `index` go through a correction unit."""

    index: Tensor

    def __init__(self, layer: nn.Module, index: Tensor, width: int) -> None:
        super().__init__()
        self.layer, self.unit = layer, CorrectionUnit(len(index), width)
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's output, corrected."""
        out: Tensor = self.layer(x)
        return out.index_add(1, self.index, self.unit(out[:, self.index]))


@dataclass(frozen=True)
class DeepCorrect:
    """Ranks filters, attaches correction units, and trains the units only."""

    name: ClassVar[str] = "deepcorrect"
    category: ClassVar[Category] = "architecture extension"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Borkar, Karam: DeepCorrect, IEEE TIP 28(12), 2019"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "environment"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_filters": {"ranking": "random"}}

    distortion: str = option(
        "none",
        "used if the subject has no environment: blur, noise, or a corruption's name",
        source="TIP 2019",
    )
    layers: int = option(
        4, "number of leading convolutions that get units", low=1, source="TIP 2019 (1 to 6)"
    )
    beta: float = option(
        0.5,
        "share of a layer's filters to correct",
        low=0.01,
        high=1.0,
        source="authors' code",
        tune=Space(0.1, 0.9),
    )
    ranking: Literal["priority", "random"] = option(
        "priority",
        "filters that get units; random: the same number, drawn at random (control of the ranking)",
        source="control",
    )
    width: int = option(
        64, "channels within a unit", low=1, source="authors' code", tune=Space(choices=(16, 32, 64))
    )
    sample: int = option(200, "images that filters are ranked on", low=1, source="budget")
    draws: int = option(3, "an environment's draws that filters are ranked on", low=1, source="budget")
    lr: float = option(
        0.01, "learning rate of SGD", low=0.0, source="authors' code", tune=Space(1e-3, 0.3, log=True)
    )
    epochs: int = option(40, "epochs", low=1, source="authors' code")
    batch_size: int = option(250, "images per step", low=4, source="authors' code")
    l1: float = option(1e-5, "L1 penalty of the units' weights", low=0.0, source="authors' code")

    def budget(self, task: Task) -> int:
        """The passes over train, and in an environment a quarter as many failing inputs in each
        batch; else over train and failing.
        """
        self._levels(task)
        if not any(isinstance(m, nn.Conv2d) for m in task.module.modules()):
            raise Unsupported(NO_FILTERS)
        n = len(task.train)
        in_environment = n + n // 4 + -(-n // self.batch_size)
        return self.epochs * (len(task.labelled) if task.environment is None else in_environment)

    def repair(self, task: Task) -> nn.Module:
        """Returns the module with trained correction units."""
        if not len(task.failing):
            return task.module
        levels = self._levels(task)
        if not len(task.train):
            raise Unsupported(
                "correction units are trained on clean training images and their distorted copies, "
                "and there are no training images"
            )
        convolutions = [
            r
            for r in weighted(runs(task.module, task.train.images(slice(2))))
            if isinstance(r.layer, nn.Conv2d)
        ]
        if not convolutions:
            raise Unsupported(NO_FILTERS)
        sample, chosen = drawn(task.train, self.sample, task.generator(1)), []
        for number, run in enumerate(convolutions[: self.layers], 1):
            priority = torch.stack(
                [rank(task, run, sample, level, 10 + i) for i, level in enumerate(levels)]
            ).mean(0)
            if self.ranking == "random":
                priority = torch.rand(priority.shape, generator=task.generator(4 + number)).to(priority)
            chosen.append(
                (run.name, priority.topk(max(1, round(self.beta * len(priority)))).indices.sort().values)
            )
            task.progress(
                "ranking filters", number, min(self.layers, len(convolutions)), float(priority.max())
            )
        attach(task.module, chosen, self.width, task.seed)
        task.note(
            "correction units on " + ", ".join(f"{len(index)} filters of {name}" for name, index in chosen)
        )
        self._train(task, levels)
        return task.module

    def _levels(self, task: Task) -> list[Transform]:
        """What distorts an image, one transform a level."""
        if task.environment is not None:
            return [task.environment] * self.draws
        if self.distortion == "none":
            raise Unsupported(
                "needs clean and distorted images in pairs: an environment, "
                "or deepcorrect.distortion=blur, noise or a corruption"
            )
        return levels_of(self.distortion)

    def _train(self, task: Task, levels: list[Transform]) -> None:
        """Trains the units; everything else stays in evaluation mode and without gradients."""
        module, generator = task.module, task.generator(2)
        units = [m.unit for m in module.modules() if isinstance(m, Corrected)]
        own = {m for u in units for m in u.modules()}
        weights = [p for u in units for p in u.parameters()]
        free = {p: p.requires_grad for p in module.parameters()}
        for parameter in free:
            parameter.requires_grad_(any(parameter is w for w in weights))

        def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            for part in module.modules():
                if part not in own:
                    part.training = False
            x = half_distorted(x, levels, generator)
            if task.environment is not None:
                index = torch.randint(len(task.failing), (max(1, len(x) // 4),), generator=generator).to(
                    task.device
                )
                x, y = torch.cat([x, task.failing.images(index)]), torch.cat([y, task.failing.y[index]])
            return (
                cross_entropy(module, x, y)
                + self.l1 * torch.stack([w.abs().sum() for w in weights if w.ndim > 1]).sum()
            )

        validation = task.validation
        if task.environment is None:
            half = half_distorted(torch.cat([validation.images()] * 2), levels, task.generator(3))
            validation = Split(half, torch.cat([validation.y] * 2))
        data = task.train if task.environment is not None else task.labelled
        recipe = Recipe(
            lr=self.lr,
            weight_decay=0.0,
            batch_size=self.batch_size,
            epochs=self.epochs,
            augment=task.recipe.augment,
        )
        fit(
            module,
            data,
            Choice(validation, task.held_out),
            recipe,
            generator,
            phase="correction units",
            loss=loss,
            watch=Watch(progress=task.progress),
        )
        for parameter, mode in free.items():
            parameter.requires_grad_(mode)


def half_distorted(x: Tensor, levels: list[Transform], generator: torch.Generator) -> Tensor:
    """Returns the images with their second half distorted, an equal part at each level."""
    half = len(x) // 2
    parts = [
        level(part, generator)
        for level, part in zip(levels, x[half:].tensor_split(len(levels)), strict=True)
        if len(part)
    ]
    return torch.cat([x[:half], *parts])


@torch.no_grad()
def rank(task: Task, run: Run, sample: Split, level: Transform, salt: int) -> Tensor:
    """Returns, for each filter of the layer the share of errors on the distorted sample that its
    clean feature map removes.
    """
    clean = sample.images()
    clean_maps: list[Tensor] = []
    handle = run.layer.register_forward_hook(lambda _m, _a, out: clean_maps.append(out.clone()))
    try:
        with evaluating(task.module):
            task.module(clean)
    finally:
        handle.remove()

    def swap(_: int, out: Tensor, p: tuple[Tensor, ...]) -> Tensor:
        mask = channelwise(p[0], out)
        return out * (1 - mask) + clean_maps[0] * mask

    logits = Intervened(task.module, [run.layer], level(clean, task.generator(salt)), swap, task.meter)
    masks = torch.eye(run.shape[1], device=task.device)
    # The first row swaps nothing.
    errors = torch.cat([_errors(logits(m), sample.y) for m in (masks[:1] * 0, *masks.split(256))])
    return (errors[0] - errors[1:]) / errors[0].clamp_min(1e-12)


def _errors(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(2) != y).float().mean(1)


def attach(module: nn.Module, chosen: list[tuple[str, Tensor]], width: int, seed: int) -> None:
    """Wraps each named convolution; the units' first weights come from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the accelerators' generators, which nothing restores
        for name, index in chosen:
            parent, _, last = name.rpartition(".")
            layer = module.get_submodule(name)
            wrapped = (
                Corrected(layer, index.cpu(), width).to(next(layer.parameters()).device).train(layer.training)
            )
            setattr(module.get_submodule(parent), last, wrapped)
