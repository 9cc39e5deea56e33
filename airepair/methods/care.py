"""care: causality-based repair (Sun et al., ICSE 2022).

Idea: a neuron is to blame if the network misbehaves whatever value its activation is set to, do(h =
v), for 16 values between its observed extremes; the few neurons with the largest attribution are
scaled by (1 + r), r in [-1, 1], with r found by a particle swarm that weighs misbehaviour against
accuracy. Misbehaviour here: 1 - probability of the right label, mean over failing inputs.

A neuron is an output feature (or channel) of a layer: of a batch norm, or of a Linear or Conv2d
that no batch norm follows, the output layer excepted. Its activation is what a ReLU makes of that
feature, where one follows: then the values of do() are never negative (a layer is found to be
rectified by what comes after it, so a ReLU may be a module, a function, or one module for all
layers). Behind any other function the values are those of the feature itself. The scaling folds
into that layer's own weight and bias, so the architecture stays, and any graph of layers is
allowed. After ReLU the same as scaling what goes out, since 1 + r >= 0. Changes these rows only.
Refuses a network without a hidden layer.

Defaults are those of the authors' code (github.com/longph1989/Socrates: 16 values, swarm of 20, c1 = c2 =
.41, w = .8, 100 iterations, ftol 1e-3 for 10, alpha .3, a tenth of the neurons, at most 50: the search
dimension stays what the paper's is). The swarm starts at r = 0 with random speeds: from one point without
speed all its differences are 0 and it never moves. `rank=effect` ranks by the difference from no intervention
instead of the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import evaluating, logits_of
from airepair.models.layers import NORMS, WEIGHTED, Run, runs
from airepair.options import Space, option
from airepair.search.intervene import Intervened, channelwise
from airepair.search.sampling import drawn
from airepair.search.swarm import Swarm, swarm
from airepair.types import Category, Source, Split, Task


@dataclass(frozen=True)
class Care:
    """Scales the neurons that interventions blame."""

    name: ClassVar[str] = "care"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Sun, Sun, Pham, Shi: Causality-based neural network repair, ICSE 2022"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_neurons": {"localise": "random"}}

    share: float = option(
        0.1,
        "share of the hidden neurons to scale",
        low=0.0,
        high=1.0,
        source="ICSE 2022",
        tune=Space(0.01, 0.5, log=True),
    )
    most: int = option(50, "maximum number of neurons", low=1, source="budget: the dimension of the search")
    values: int = option(
        16, "values of an intervention, between the observed extremes", low=2, source="authors' code"
    )
    sample: int = option(64, "failing inputs to intervene on", low=1, source="budget")
    positives: int = option(200, "passing inputs that the accuracy is measured on", low=1, source="budget")
    alpha: float = option(
        0.3,
        "weight of 1 - accuracy against misbehaviour",
        low=0.0,
        high=1.0,
        source="authors' code",
        tune=Space(0.05, 0.95),
    )
    localise: Literal["attribution", "random"] = option(
        "attribution",
        "neurons that are scaled; random: the same number, drawn at random (control of the localisation)",
        source="control",
    )
    rank: Literal["level", "effect"] = option(
        "level",
        "rank neurons by mean misbehaviour, or by its distance from no intervention",
        source="ICSE 2022",
    )
    particles: int = option(20, "particles", low=2, source="authors' code")
    iterations: int = option(100, "maximum number of generations", low=1, source="authors' code")

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """Returns the module with the blamed neurons scaled."""
        if not len(task.failing):
            return task.module
        layers = neurons(task.module, task.failing.images(slice(2)))
        if not layers:
            raise Unsupported(
                "no hidden layer whose outputs could be scaled: only Linear, "
                "Conv2d and affine batch norm before the output layer count"
            )
        sample = drawn(task.failing, self.sample, task.generator(1))
        blame = torch.cat([self._attribution(task, layer, sample) for layer in layers])
        number = min(self.most, len(blame), max(3, round(self.share * len(blame))))
        if self.localise == "random":
            blame = torch.rand(blame.shape, generator=task.generator(4)).to(blame)
        chosen = blame.topk(number).indices.sort().values
        widths = torch.tensor([run.shape[1] for run in layers], device=chosen.device)
        which = torch.searchsorted(widths.cumsum(0), chosen, right=True)
        places = chosen - (widths.cumsum(0) - widths)[which]
        used = which.unique().tolist()
        scaled = [(layers[i].layer, (which == i).nonzero()[:, 0], places[which == i]) for i in used]
        task.note(f"{number} of {len(blame)} neurons scaled, in {', '.join(layers[i].name for i in used)}")
        factors = 1 + self._search(task, scaled, number)
        for layer, mine, channels in scaled:
            fold(layer, channels, factors[mine])
        return task.module

    def _attribution(self, task: Task, run: Run, sample: Split) -> Tensor:
        """Mean misbehaviour of each of the layer's neurons over the values it is set to."""
        width, x = run.shape[1], sample.images()
        low, high = _extremes(task.module, run.layer, x)
        if rectified(task.module, run.layer, x):
            low, high = low.clamp_min(0), high.clamp_min(0)
        steps = torch.linspace(0, 1, self.values, device=x.device)
        values = (low[:, None] + (high - low)[:, None] * steps).reshape(-1)
        masks = torch.eye(width, device=x.device).repeat_interleave(self.values, 0)

        def intervene(_: int, out: Tensor, p: tuple[Tensor, ...]) -> Tensor:
            mask = channelwise(p[0], out)
            return out * (1 - mask) + p[1] * mask

        logits = Intervened(task.module, [run.layer], x, intervene, task.meter)
        bad = torch.cat(
            [
                badness(logits(m, v), sample.y)
                for m, v in zip(masks.split(512), values.split(512), strict=True)
            ]
        )
        task.progress(f"intervening on {run.name}", 1, 1, float(bad.mean()))
        mean = bad.view(width, self.values).mean(1)
        if self.rank == "level":
            return mean
        return (mean - badness(logits(masks[:1] * 0, values[:1]), sample.y)).abs()

    def _search(self, task: Task, scaled: list[tuple[nn.Module, Tensor, Tensor]], number: int) -> Tensor:
        """The swarm's best r, one for each neuron."""
        positive = drawn(task.passing, self.positives, task.generator(2))
        n, y = len(task.failing), torch.cat([task.failing.y, positive.y])

        def scale(i: int, out: Tensor, p: tuple[Tensor, ...]) -> Tensor:
            _, mine, channels = scaled[i]
            factor = torch.ones(out.shape[1], device=out.device).index_add(0, channels, p[0][mine])
            return out * channelwise(factor, out)

        logits = Intervened(
            task.module,
            [layer for layer, _, _ in scaled],
            torch.cat([task.failing.images(), positive.images()]),
            scale,
            task.meter,
        )

        def fitness(population: Tensor) -> Tensor:
            out = logits(population)
            wrong = (out[:, n:].argmax(2) != y[n:]).float().sum(1) / max(1, len(positive))
            return -((1 - self.alpha) * badness(out[:, :n], y[:n]) + self.alpha * wrong)

        generator = task.generator(3)
        start = torch.zeros(self.particles, number, device=task.device)
        speed = (2 * torch.rand(start.shape, generator=generator) - 1).to(start)
        speed[0] = 0
        report = lambda step, of, value: task.progress("scaling", step, of, -value)  # noqa: E731 - a closure of one line
        settings = Swarm(0.8, 0.41, 0.41, self.iterations, 10, 1e-3, low=-1.0, high=1.0, progress=report)
        return swarm(fitness, start, speed, settings, generator).best


def badness(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the mean of 1 - probability of the label, for each of M candidates' logits (M x N x K)."""
    p = logits.softmax(2).gather(2, y.expand(len(logits), -1)[..., None])
    return 1 - p[..., 0].mean(1)


def neurons(module: nn.Module, x: Tensor) -> list[Run]:
    """Returns the layers whose outputs are neurons, each called once; see the card."""
    order = runs(module, x)
    last = max((i for i, r in enumerate(order) if isinstance(r.layer, WEIGHTED)), default=0)
    names = [r.name for r in order]
    found = []
    for i, run in enumerate(order[:last]):
        normed = (
            isinstance(run.layer, WEIGHTED)
            and isinstance(order[i + 1].layer, NORMS)
            and order[i + 1].layer.affine
        )
        affine = isinstance(run.layer, WEIGHTED) or (isinstance(run.layer, NORMS) and run.layer.affine)
        # A dense layer on sequences keeps its features last: no channel axis to scale.
        flat = not (isinstance(run.layer, nn.Linear) and len(run.shape) > 2)
        if affine and not normed and flat and names.count(run.name) == 1:
            found.append(run)
    return found


@torch.no_grad()
def fold(layer: nn.Module, channels: Tensor, factors: Tensor) -> None:
    """Multiplies some output channels of a Linear, Conv2d or affine batch norm by `factors`, in its
    weight and bias.
    """
    for parameter in (layer.weight, layer.bias):
        if isinstance(parameter, Tensor):
            parameter[channels] *= factors.to(parameter).view(-1, *([1] * (parameter.ndim - 1)))


def rectified(module: nn.Module, layer: nn.Module, x: Tensor) -> bool:
    """Returns whether nothing that follows the layer sees its negative values on the images `x`:
    the logits are the same with zeros in their place.
    """
    logits = logits_of(module, x)
    handle = layer.register_forward_hook(lambda _m, _a, out: out.clamp_min(0))
    try:
        return torch.equal(logits_of(module, x), logits)
    finally:
        handle.remove()


@torch.no_grad()
def _extremes(module: nn.Module, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest output of each channel on `x`."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _m, _a, out: seen.append(out.transpose(0, 1).flatten(1)))
    try:
        with evaluating(module):
            module(x)
    finally:
        handle.remove()
    return seen[0].amin(1), seen[0].amax(1)
