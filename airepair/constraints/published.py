"""Constraints: a formula, the points that it ranges over, and the published constraints by name.

Each published constraint is an expression of the logic with its numbers filled in; these, the weight, the
learning rate and the oracle's steps are those of the authors' scripts (github.com/eth-sri/dl2, run.sh) for
the data set, CIFAR-10's where the paper has none. `T` constraints relate inputs that are given, `G`
constraints hold for every point of a region, which an oracle searches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from airepair.constraints.formulas import Formula, walk
from airepair.constraints.terms import Disjunction, Scope

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")
FASHION = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# CSimilarity: an image of the first class is rather taken for the second than for the third.
SIMILAR = ((1, 9, 5), (4, 7, 8), (0, 8, 6), (5, 3, 9), (3, 5, 1))
WEIGHT = 0.6  # of an expression that is not a published constraint: that of the class groups
STEPS = 7
RATE = 1e-4  # Adam's, in the supervised experiments


@dataclass(frozen=True)
class Box:
    """It holds all images within `eps` of the point, each pixel, and in [0, 1]."""

    around: str
    eps: float


@dataclass(frozen=True)
class Segment:
    """It holds all images on the straight line from a to b."""

    a: str
    b: str


Region = Box | Segment


@dataclass(frozen=True)
class Constraint:
    """It is a formula for all points of its regions.

    `regions`: the quantified points by name; `weight` of its loss; `steps` of the oracle; `radius`:
    partners x2 nearer than this are the ones it is about (None: the data set's own); `rate`: the
    learning rate that it was published with.
    """

    text: str
    formula: Formula
    regions: Mapping[str, Region]
    weight: float = WEIGHT
    steps: int = STEPS
    radius: float | None = None
    rate: float = RATE

    @property
    def names(self) -> frozenset[str]:
        """Returns every point and label that the constraint mentions."""
        used = frozenset[str]().union(*(t.names() for t in walk(self.formula)))
        ends = [(r.around,) if isinstance(r, Box) else (r.a, r.b) for r in self.regions.values()]
        return used.union(*ends)

    @property
    def outputs(self) -> frozenset[str]:
        """Returns the points at which the network is asked."""
        return frozenset[str]().union(*(t.outputs() for t in walk(self.formula)))

    @property
    def pairwise(self) -> bool:
        """Returns whether it relates an input to a partner."""
        return bool(self.names & {"x2", "y2"})

    @property
    def labelled(self) -> bool:
        """Whether it needs labels."""
        return bool(self.names & {"y", "y2"})

    def fixed_logits(
        self, network: Callable[[Tensor], Tensor], points: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Returns the logits, without gradients, of the points that no quantifier moves: an oracle
        needs them once.
        """
        with torch.no_grad():
            return {a: network(points[a]) for a in sorted(self.outputs - set(self.regions))}

    def scope(
        self,
        network: Callable[[Tensor], Tensor],
        points: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        groups: Tensor | None,
        disjunction: Disjunction = "product",
        known: Mapping[str, Tensor] | None = None,
    ) -> Scope:
        """Returns the scope with the logits of every point that the formula asks about (except
        `known`), from one forward pass over all of them.
        """
        logits = dict(known or {})
        asked = sorted(self.outputs - set(logits))
        if asked:
            out = network(torch.cat([points[a] for a in asked])).split([len(points[a]) for a in asked])
            logits |= dict(zip(asked, out, strict=True))
        return Scope(points, logits, labels, groups, disjunction)


@dataclass(frozen=True)
class Named:
    """It is a published constraint: its parameters with their defaults (None: the data set's own
    constant), expression, weight, steps and rate.

    `on`: by the data set's classes, what the authors chose otherwise there (parameters, "weight", "steps").
    """

    parameters: Mapping[str, float | None]
    expression: str
    weight: float | None
    steps: int = STEPS
    radius: str | None = None
    classes: tuple[str, ...] | None = None
    on: Mapping[tuple[str, ...], Mapping[str, float]] = field(default_factory=dict)
    rate: float = RATE
    source: str = "DL2, supervised experiments"


def _similar(point: str, more: str = "") -> str:
    """y = car: truck >= dog; deer: horse >= ship; plane: ship >= frog; dog: cat >= truck; cat: dog
    >= car (+ delta).
    """
    each = [
        f"(y == {y} => logit({point}, {near}) >= logit({point}, {far}) + {{delta}})"
        for y, near, far in SIMILAR
    ]
    return more + " and ".join(each)


BOX = "forall z in box(x, {eps}): "
NAMED: dict[str, Named] = {
    "Groups": Named(
        {"eps": 0.0},
        "every(groups(x) <= {eps} or groups(x) >= 1 - {eps})",
        0.6,
        rate=1e-3,
        source="DL2, semi-supervised CIFAR-100",
    ),
    "RobustnessT": Named(
        {"eps1": None, "eps2": None}, "dist(x, x2) < {eps1} => kl(x, x2) < {eps2}", None, radius="eps1"
    ),
    "RobustnessG": Named(
        {"eps": 0.3, "delta": 0.52},
        BOX + "logp(z, y) >= log({delta})",
        0.1,
        on={DIGITS: {"weight": 0.2, "steps": 50}, FASHION: {"weight": 0.2, "steps": 50}},
    ),
    "LipschitzT": Named({"L": 1.0}, "change(x, x2) <= {L} * dist(x, x2)", 0.1),
    "LipschitzG": Named(
        {"eps": 0.3, "L": 1.0},
        "forall z in box(x, {eps}), w in box(x2, {eps}): change(z, w) <= {L} * dist(z, w)",
        0.1,
        steps=5,
        on={DIGITS: {"L": 0.1, "weight": 0.2}, FASHION: {"L": 0.3, "weight": 0.2, "steps": 50}},
    ),
    "CSimilarityT": Named({"delta": 0.01}, _similar("x"), 0.2, classes=CIFAR10),
    "CSimilarityG": Named({"eps": 0.3, "delta": 1.0}, _similar("z", BOX), 0.2, steps=10, classes=CIFAR10),
    "SegmentG": Named(
        {"eps": 100.0, "delta": 1.5},
        "forall z in segment(x, x2): given(y != y2 and dist(x, x2) <= {eps}) => blend(z) < {delta}",
        0.01,
        steps=5,
        radius="eps",
    ),
}
