"""Terms: what a formula compares. The value of a term is a batch: N numbers, or N x G for `groups`.

A scope holds the points of a constraint: `x` (an input), `x2` (its partner), and what a quantifier
adds (`z`), each N x C x H x W; the labels `y`, `y2` where they are known; and the logits of those
points whose output the formula uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from airepair.errors import Unsupported

Disjunction = Literal["product", "min"]


@dataclass(frozen=True, eq=False)
class Scope:
    """It holds the points by name, their logits (N x K) and labels (N), the class groups (K x G,
    0/1), and how `or` translates.
    """

    points: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    groups: Tensor | None = None
    disjunction: Disjunction = "product"


class Term(Protocol):
    """It is one number per sample."""

    def value(self, scope: Scope) -> Tensor:
        """Returns N numbers (N x G for a term over groups)."""
        ...

    def parts(self) -> Iterator[Term]:
        """Returns the terms that this one is made of."""
        ...

    def outputs(self) -> frozenset[str]:
        """Returns the points at which this term itself asks the network."""
        ...

    def names(self) -> frozenset[str]:
        """Returns every point and label that this term itself mentions."""
        ...


class Leaf:
    """It is a term without parts that mentions nothing, unless a subclass says more."""

    def parts(self) -> Iterator[Term]:
        return iter(())

    def outputs(self) -> frozenset[str]:
        return frozenset()

    def names(self) -> frozenset[str]:
        return self.outputs()


@dataclass(frozen=True, eq=False)
class Value(Leaf):
    """It is a number, or a batch of numbers computed elsewhere."""

    tensor: Tensor | float

    def value(self, scope: Scope) -> Tensor:
        return torch.as_tensor(self.tensor)


@dataclass(frozen=True)
class Apply(Leaf):
    """It is arithmetic on terms: `symbol` names it (+ - * / and log exp abs)."""

    symbol: str
    arguments: tuple[Term, ...]

    def value(self, scope: Scope) -> Tensor:
        return OPERATIONS[self.symbol](*(a.value(scope) for a in self.arguments))

    def parts(self) -> Iterator[Term]:
        return iter(self.arguments)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "negative": torch.neg,
    "log": torch.log,
    "exp": torch.exp,
    "abs": torch.abs,
}


@dataclass(frozen=True)
class Label(Leaf):
    """It is the label `y` of x or `y2` of x2, as a number."""

    name: str

    def value(self, scope: Scope) -> Tensor:
        return _label(scope, self.name).float()

    def names(self) -> frozenset[str]:
        return frozenset({self.name})


def _label(scope: Scope, name: str) -> Tensor:
    if name not in scope.labels:
        raise Unsupported(f"the constraint uses the label {name!r}, which unlabelled inputs do not have")
    return scope.labels[name]


@dataclass(frozen=True)
class Output(Leaf):
    """It is `logit`, `logp` (log-probability) or `p` (probability) of classes at a point: a class
    id, the label's class, or a set (p is summed).
    """

    kind: Literal["logit", "logp", "p"]
    point: str
    classes: tuple[int, ...] | str

    def value(self, scope: Scope) -> Tensor:
        logits = scope.logits[self.point]
        of = (
            logits
            if self.kind == "logit"
            else logits.log_softmax(1)
            if self.kind == "logp"
            else logits.softmax(1)
        )
        if isinstance(self.classes, str):
            return of.gather(1, _label(scope, self.classes)[:, None])[:, 0]
        if len(self.classes) == 1:
            return of[:, self.classes[0]]
        # a list as the index would be copied to the device, which no recorded search may wait for
        chosen = torch.stack([of[:, c] for c in self.classes], 1)
        return chosen.sum(1) if self.kind == "p" else chosen.logsumexp(1)

    def outputs(self) -> frozenset[str]:
        return frozenset({self.point})

    def names(self) -> frozenset[str]:
        return frozenset({self.point, self.classes} if isinstance(self.classes, str) else {self.point})


@dataclass(frozen=True)
class Groups(Leaf):
    """It is the probability of each of the data set's class groups at a point: N x G."""

    point: str

    def value(self, scope: Scope) -> Tensor:
        if scope.groups is None:
            raise Unsupported("the constraint is about class groups, and the data set has none")
        return scope.logits[self.point].softmax(1) @ scope.groups

    def outputs(self) -> frozenset[str]:
        return frozenset({self.point})


def _norm(difference: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return norm


@dataclass(frozen=True)
class Distance(Leaf):
    """It is ||a - b||_2 of two points, over all pixels."""

    a: str
    b: str

    def value(self, scope: Scope) -> Tensor:
        return _norm(scope.points[self.a] - scope.points[self.b])

    def names(self) -> frozenset[str]:
        return frozenset({self.a, self.b})


@dataclass(frozen=True)
class Change(Leaf):
    """It is ||f(a) - f(b)||_2 of the logits at two points."""

    a: str
    b: str

    def value(self, scope: Scope) -> Tensor:
        return _norm(scope.logits[self.a] - scope.logits[self.b])

    def outputs(self) -> frozenset[str]:
        return frozenset({self.a, self.b})


@dataclass(frozen=True)
class Divergence(Leaf):
    """It is KL(p(a) || p(b)) of the probabilities at two points."""

    a: str
    b: str

    def value(self, scope: Scope) -> Tensor:
        p, q = scope.logits[self.a].log_softmax(1), scope.logits[self.b].log_softmax(1)
        return (p.exp() * (p - q)).sum(1)

    def outputs(self) -> frozenset[str]:
        return frozenset({self.a, self.b})


@dataclass(frozen=True)
class Blend(Leaf):
    """It is the cross-entropy at z, a point between x and x2, against their labels weighted by
    closeness (DL2's SegmentG).

    The weight of y is ||z - x2|| / (||z - x|| + ||z - x2||), that of y2 the rest.
    """

    point: str
    a: str
    b: str

    def value(self, scope: Scope) -> Tensor:
        z = scope.points[self.point]
        to_a, to_b = (_norm(z - scope.points[n]) for n in (self.a, self.b))
        weight = to_b / (to_a + to_b).clamp_min(1e-12)
        log_p = scope.logits[self.point].log_softmax(1)
        of_a, of_b = (log_p.gather(1, _label(scope, n)[:, None])[:, 0] for n in ("y", "y2"))
        return -(weight * of_a + (1 - weight) * of_b)

    def outputs(self) -> frozenset[str]:
        return frozenset({self.point})

    def names(self) -> frozenset[str]:
        return frozenset({self.point, self.a, self.b, "y", "y2"})
