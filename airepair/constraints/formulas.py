"""Formulas and their translation to a loss (DL2, section 3): per sample >= 0, and 0 exactly where the
formula holds.

a <= b   max(a - b, 0)
a < b    max(a - b, 0) + [a = b]
a == b   |a - b|
a != b   [a = b]
and      sum
or       product (or, by option, the minimum: of the sample, not of the batch)
a => b   (not a) or b
not      pushed inward

Everything is per sample: the public code summed `==` over the batch between February 2020 and 2023,
and took `min` over the batch.

A product of very small losses can underflow to 0; a strict comparison has no gradient where both
sides are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from airepair.constraints.terms import Scope, Term


class Formula(Protocol):
    """It is a property of each sample of a batch."""

    def loss(self, scope: Scope) -> Tensor:
        """Returns N numbers >= 0, 0 if the formula holds; differentiable almost everywhere."""
        ...

    def satisfied(self, scope: Scope) -> Tensor:
        """Returns N booleans, by exact comparison."""
        ...

    def negated(self) -> Formula:
        """Returns the negation, pushed inward to the comparisons."""
        ...

    def terms(self) -> Iterator[Term]:
        """Returns the terms that are compared."""
        ...


@dataclass(frozen=True)
class _Comparison:
    a: Term
    b: Term

    def terms(self) -> Iterator[Term]:
        yield from (self.a, self.b)

    def _values(self, scope: Scope) -> tuple[Tensor, Tensor]:
        return self.a.value(scope), self.b.value(scope)


class LE(_Comparison):
    """It holds if a <= b."""

    def loss(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return (a - b).clamp_min(0)

    def satisfied(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return a <= b

    def negated(self) -> Formula:
        return LT(self.b, self.a)


class LT(_Comparison):
    """It holds if a < b."""

    def loss(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return (a - b).clamp_min(0) + (a == b)

    def satisfied(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return a < b

    def negated(self) -> Formula:
        return LE(self.b, self.a)


class EQ(_Comparison):
    """It holds if a == b."""

    def loss(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return (a - b).abs()

    def satisfied(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return a == b

    def negated(self) -> Formula:
        return NE(self.a, self.b)


class NE(_Comparison):
    """It holds if a != b. Its loss has no gradient."""

    def loss(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return (a == b).to(torch.promote_types(a.dtype, b.dtype))

    def satisfied(self, scope: Scope) -> Tensor:
        a, b = self._values(scope)
        return a != b

    def negated(self) -> Formula:
        return EQ(self.a, self.b)


@dataclass(frozen=True)
class Truth:
    """It is true or false."""

    holds: bool

    def loss(self, scope: Scope) -> Tensor:
        return torch.tensor(0.0 if self.holds else 1.0)

    def satisfied(self, scope: Scope) -> Tensor:
        return torch.tensor(self.holds)

    def negated(self) -> Formula:
        return Truth(not self.holds)

    def terms(self) -> Iterator[Term]:
        return iter(())


@dataclass(frozen=True)
class Given:
    """It is a fact about the data, no matter of degree (DL2's BoolConst): loss 0 if it holds and 1
    elsewhere, without a gradient.
    """

    fact: Formula

    def loss(self, scope: Scope) -> Tensor:
        return 1.0 - self.fact.satisfied(scope).float()

    def satisfied(self, scope: Scope) -> Tensor:
        return self.fact.satisfied(scope)

    def negated(self) -> Formula:
        return Given(self.fact.negated())

    def terms(self) -> Iterator[Term]:
        return self.fact.terms()


@dataclass(frozen=True)
class _Junction:
    members: tuple[Formula, ...]

    def terms(self) -> Iterator[Term]:
        for member in self.members:
            yield from member.terms()


class And(_Junction):
    """It holds if all of the members hold."""

    def loss(self, scope: Scope) -> Tensor:
        first, *rest = (m.loss(scope) for m in self.members)
        return sum(rest, first)

    def satisfied(self, scope: Scope) -> Tensor:
        first, *rest = (m.satisfied(scope) for m in self.members)
        for r in rest:
            first = first & r
        return first

    def negated(self) -> Formula:
        return Or(tuple(m.negated() for m in self.members))


class Or(_Junction):
    """It holds if at least one of the members holds."""

    def loss(self, scope: Scope) -> Tensor:
        first, *rest = (m.loss(scope) for m in self.members)
        for r in rest:
            first = first * r if scope.disjunction == "product" else torch.minimum(first, r.to(first.dtype))
        return first

    def satisfied(self, scope: Scope) -> Tensor:
        first, *rest = (m.satisfied(scope) for m in self.members)
        for r in rest:
            first = first | r
        return first

    def negated(self) -> Formula:
        return And(tuple(m.negated() for m in self.members))


@dataclass(frozen=True)
class Every:
    """It is the member for every group of a term over groups (N x G): the conjunction over the last axis."""

    member: Formula

    def loss(self, scope: Scope) -> Tensor:
        return self.member.loss(scope).sum(-1)

    def satisfied(self, scope: Scope) -> Tensor:
        return self.member.satisfied(scope).all(-1)

    def negated(self) -> Formula:
        return Some(self.member.negated())

    def terms(self) -> Iterator[Term]:
        return self.member.terms()


@dataclass(frozen=True)
class Some:
    """It is the member for at least one group: the disjunction over the last axis."""

    member: Formula

    def loss(self, scope: Scope) -> Tensor:
        losses = self.member.loss(scope)
        return losses.prod(-1) if scope.disjunction == "product" else losses.amin(-1)

    def satisfied(self, scope: Scope) -> Tensor:
        return self.member.satisfied(scope).any(-1)

    def negated(self) -> Formula:
        return Every(self.member.negated())

    def terms(self) -> Iterator[Term]:
        return self.member.terms()


def implies(a: Formula, b: Formula) -> Formula:
    """Returns a => b, that is (not a) or b."""
    return Or((a.negated(), b))


def walk(formula: Formula) -> Iterator[Term]:
    """Yields every term of the formula, with the terms that it is made of."""
    stack = list(formula.terms())
    while stack:
        term = stack.pop()
        yield term
        stack.extend(term.parts())
