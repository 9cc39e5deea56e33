"""arachne: search-based patching of a few localised weights (Sohn, Kang, Yoo; arXiv 1912.12463v1 and
TOSEM 2023).

Idea: find the few weights on the Pareto front of gradient loss and forward impact, then search new
values for just these with a fitness that rewards failing inputs put right and passing ones kept.
Two algorithms bear the name:

- `search=pso` (v1): weights of the last dense layer; both scores on the failing inputs;
  constriction particle swarm over absolute values.
- `search=de` (v2, what the public code does): all dense and convolution kernels; scores divided by
  1 + the same on passing inputs (as many, stratified by label); DE/rand/1/bin over values clipped
  to twice their layer's range.

Changes the localised weights only, no bias. Refuses a network whose kernels are not Linear or
Conv2d (v1: without a last dense layer). Outputs below the first changed layer are computed once, a
generation is one batched pass (for the last layer one matrix product).

Departures, each said: (1) v1 prints phi1 = phi2 = 4.1 with the constriction 0.7298 of a *sum* of
4.1, and a lower bound of a fifth of the weights' range on the speed; particles then cannot settle.
The default is 2.05 each and the upper bound alone; `printed=true` gives the text's. (2) The start
N(mean, std) of the weights' layer never contains "no change", so the original vector is one of the
particles. (3) v2's trials of a generation all come from the generation before (its code updates in
place), so that they can be evaluated together. (4) Losses over several inputs are means.

Defaults are those of the version that runs: v1 protects 200 passing inputs, v2 all of them
(github.com/coinse/arachne); only v2 has alpha, 10. Both search with 100 candidates for at most 100
generations, and stop when 10 (v2: more than 10) of them bring nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.models.layers import Weighted, runs, weighted
from airepair.options import Space, option
from airepair.search.evolution import Evolution, evolve
from airepair.search.localise import impacts
from airepair.search.pareto import pareto_front
from airepair.search.patch import PatchedLogits, Places
from airepair.search.sampling import drawn
from airepair.search.swarm import Fitness, Found, Swarm, constriction, swarm
from airepair.types import Category, Source, Split, Task


@dataclass(frozen=True)
class Arachne:
    """Localises a few weights on the failing inputs and searches better values for them."""

    name: ClassVar[str] = "arachne"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = (
        "Sohn, Kang, Yoo: Arachne, arXiv 1912.12463v1 (pso); TOSEM 2023, doi 10.1145/3563210 (de)"
    )
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_weights": {"localise": "random"}}

    search: Literal["pso", "de"] = option(
        "de",
        "pso: v1, last layer; de: v2, all layers",
        source="TOSEM 2023",
        tune=Space(choices=("pso", "de")),
    )
    localise: Literal["pareto", "random"] = option(
        "pareto",
        "weights that are searched; random: the same number per layer, drawn at random (control of the "
        "localisation)",
        source="control",
    )
    target: Literal["all", "confusion"] = option(
        "all", "the failing inputs to repair: all, or the most frequent (label, prediction)", source="v1"
    )
    positives: int | None = option(
        None,
        "passing inputs not to break, drawn at random; none: 200 for pso, all for de",
        low=0,
        source="v1: 200; v2: all",
    )
    population: int = option(100, "particles, or members", low=4, source="v1, v2")
    generations: int = option(100, "maximum number of generations", low=1, source="v1, v2")
    patience: int = option(10, "generations without gain before it stops", low=1, source="v1, v2")
    alpha: float = option(
        10.0,
        "de only: weight of the failing inputs in the fitness",
        low=0.0,
        source="v2",
        tune=Space(0.5, 50, log=True),
    )
    printed: bool = option(
        False, "pso: accelerations and lower speed bound as v1 prints them (does not settle)", source="v1"
    )

    def budget(self, task: Task) -> int:
        """Returns the gradients of the localisation: once through the failing inputs and, for v2,
        as many passing ones.
        """
        return len(task.failing) * (2 if self.search == "de" else 1)

    def repair(self, task: Task) -> nn.Module:
        """Returns the module with the best vector found written into its localised weights."""
        if not len(task.failing):
            return task.module
        negative, positive = _negative(task, self.target), self._positive(task)
        layers = self._layers(task, negative)
        places = self._localise(task.module, layers, negative, positive, task.generator(2))
        names = ", ".join(f"{n} {int((places.which == i).sum())}" for i, n in enumerate(places.names))
        found = self._search(task, places, negative, positive)
        task.note(f"{len(places)} weights localised ({names}); {found.generations} generations")
        places.write(task.module, found.best)
        return task.module

    def _positive(self, task: Task) -> Split:
        """The passing inputs that are not to break: as many as the version that runs protects,
        unless a number is given.
        """
        own = 200 if self.search == "pso" else len(task.passing)
        return drawn(task.passing, own if self.positives is None else self.positives, task.generator(1))

    def _layers(self, task: Task, negative: Split) -> dict[str, Weighted]:
        """The layers that may change, by name."""
        order = weighted(runs(task.module, negative.images(slice(2))))
        if not order:
            raise Unsupported("no Linear or Conv2d layer to patch")
        if self.search == "pso":
            if not isinstance(order[-1].layer, nn.Linear):
                raise Unsupported(
                    f"search=pso patches a last dense layer, and {order[-1].name!r} is a convolution; "
                    f"use search=de"
                )
            order = order[-1:]
        return {run.name: run.layer for run in order}  # type: ignore[misc]

    def _localise(
        self,
        module: nn.Module,
        layers: dict[str, Weighted],
        negative: Split,
        positive: Split,
        generator: torch.Generator,
    ) -> Places:
        """The Pareto front of (gradient loss, forward impact)."""
        kernels = list(layers.values())
        cost = impacts(module, kernels, negative, behind=self.search == "de")
        gradient, forward = (torch.cat([t.flatten() for t in side]) for side in (cost.gradient, cost.forward))
        if self.search == "de" and len(positive):
            like = impacts(module, kernels, _stratified(positive, len(negative), generator))
            gradient = gradient / (1 + torch.cat([t.flatten() for t in like.gradient]))
            forward = forward / (1 + torch.cat([t.flatten() for t in like.forward]))
        candidates = torch.arange(len(gradient), device=gradient.device)
        if self.search == "pso":
            candidates = gradient.topk(min(20 * len(negative), len(gradient))).indices.sort().values
        front = candidates[pareto_front(torch.stack([gradient[candidates], forward[candidates]], 1))]
        return _places(layers, front if self.localise == "pareto" else _anywhere(layers, front, generator))

    def _search(self, task: Task, places: Places, negative: Split, positive: Split) -> Found:
        both = torch.cat([negative.images(), positive.images()])
        logits = PatchedLogits(task.module, places, both, task.meter)
        labels, n = torch.cat([negative.y, positive.y]), len(negative)
        original, generator = places.values(task.module), task.generator(3)
        start, low, high = _start(task.module, places, self.population, generator)
        start[0] = original
        if self.search == "de":
            settings = Evolution(
                generations=self.generations, patience=self.patience, progress=_report(task, self.search)
            )
            return evolve(_of(logits, labels, n, self.alpha), start, 2 * low, 2 * high, settings, generator)
        span = float((high - low).max())
        phi = 4.1 if self.printed else 2.05
        chi = constriction(4.1)
        cap = Swarm(
            chi,
            chi * phi,
            chi * phi,
            self.generations,
            self.patience,
            fastest=5 * span,
            slowest=span / 5 if self.printed else 0.0,
            progress=_report(task, self.search),
        )
        return swarm(_of(logits, labels, n, None), start, torch.zeros_like(start), cap, generator)


def _of(logits: PatchedLogits, labels: Tensor, negatives: int, alpha: float | None) -> Fitness:
    return lambda population: fitness(logits(population), labels, negatives, alpha)


def _report(task: Task, phase: str) -> Callable[[int, int, float], None]:
    return lambda number, of, value: task.progress(phase, number, of, -value)


def fitness(logits: Tensor, labels: Tensor, negatives: int, alpha: float | None) -> Tensor:
    """Returns the fitness (P, maximised) of logits (P x N x K); the first `negatives` of the N
    inputs are the failing ones.
    """
    right = (logits.argmax(2) == labels).to(logits.dtype)
    own = logits.gather(2, labels.expand(len(logits), -1)[..., None])[..., 0]
    loss = logits.logsumexp(2) - own
    if alpha is not None:
        credit = torch.where(right > 0, right, 1 / (loss + 1))
        return credit[:, negatives:].sum(1) + alpha * credit[:, :negatives].sum(1)
    sides = ((right[:, :negatives], loss[:, :negatives]), (right[:, negatives:], loss[:, negatives:]))
    return torch.stack([(r.sum(1) + 1) / (v.sum(1) / max(1, v.shape[1]) + 1) for r, v in sides]).sum(0)


def _start(
    module: nn.Module, places: Places, population: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions N(mean, std) of each weight's layer (P x D), and its layer's smallest and largest
    weight (D).
    """
    kernels = [module.get_parameter(n).detach() for n in places.names]
    mean, std, low, high = (
        torch.stack([f(k) for k in kernels])[places.which]
        for f in (torch.mean, lambda k: k.std(correction=0), torch.min, torch.max)
    )
    return mean + std * torch.randn(population, len(places), generator=generator).to(mean), low, high


def _places(layers: dict[str, Weighted], front: Tensor) -> Places:
    """Places of the chosen among all kernels' weights, laid end to end."""
    sizes = torch.tensor([layer.weight.numel() for layer in layers.values()], device=front.device)
    ends = sizes.cumsum(0)
    layer = torch.searchsorted(ends, front, right=True)
    used, which = layer.unique(return_inverse=True)
    names = list(layers)
    return Places(tuple(f"{names[i]}.weight" for i in used.tolist()), which, front - (ends - sizes)[layer])


def _anywhere(layers: dict[str, Weighted], front: Tensor, generator: torch.Generator) -> Tensor:
    """As many weights of each layer as the front has there, drawn: places among all kernels'
    weights, laid end to end.
    """
    sizes = [layer.weight.numel() for layer in layers.values()]
    ends = torch.tensor(sizes, device=front.device).cumsum(0)
    counts = torch.bincount(torch.searchsorted(ends, front, right=True), minlength=len(sizes)).tolist()
    drawn = [
        torch.randperm(size, generator=generator)[:count].sort().values
        for size, count in zip(sizes, counts, strict=True)
    ]
    starts = (ends.cpu() - torch.tensor(sizes)).tolist()
    return torch.cat([index + start for index, start in zip(drawn, starts, strict=True)]).to(front.device)


def _negative(task: Task, target: str) -> Split:
    if target == "all":
        return task.failing
    predicted = sit(task.module, task.failing).predictions.to(task.device)
    _, which, counts = (task.failing.y * len(task.classes) + predicted).unique(
        return_inverse=True, return_counts=True
    )
    return task.failing.select((which == counts.argmax()).nonzero()[:, 0])


def _stratified(split: Split, n: int, generator: torch.Generator) -> Split:
    """At most `n` inputs, the labels (= predictions, for inputs that are right) taken in turn."""
    order = torch.randperm(len(split), generator=generator)
    y = split.y.cpu()[order]
    rank = torch.zeros(len(y), dtype=torch.int64)
    for label in y.unique():
        rank[y == label] = torch.arange(int((y == label).sum()))
    return split.select(order[rank.argsort(stable=True)[:n]].sort().values.to(split.y.device))
