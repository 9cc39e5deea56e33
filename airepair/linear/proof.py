"""From constraints to a change of weights with a sentence about what is proved: optimal, or
infeasible and then softened or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from airepair.errors import Unsupported
from airepair.linear.highs import Limits, Norm
from airepair.linear.program import Constraints, Solution, solve

CERTAIN = 1e-6  # relative duality gap up to which an optimum counts as proved; those of digits lie below 1e-8


@dataclass(frozen=True)
class Plan:
    """It says what to solve and what to do if it is infeasible: give up (`penalty` None) or price
    each point's shortfall at `penalty`.
    """

    norm: Norm
    limits: Limits
    penalty: float | None
    what: str


def settle(
    constraints: Constraints,
    plan: Plan,
    *,
    equalities: sparse.csr_array | None = None,
    note: Callable[[str], None],
    tick: Callable[[int, float], None] = lambda *_: None,
) -> Solution:
    """Returns the optimum of the program, or of its softened form; `note` hears what is proved.
    Unsupported: infeasible, and not to be softened.
    """
    found = solve(constraints, plan.norm, plan.limits, equalities=equalities, tick=tick)
    if found.status == "optimal":
        note(f"{verdict(found)}: {plan.what}; {describe(plan.norm, found)}")
        return found
    proof = f"proved infeasible: no change of {plan.what}"
    if plan.penalty is None:
        raise Unsupported(proof)
    note(proof)
    left = replace(plan.limits, seconds=max(0.01, plan.limits.seconds - found.seconds))
    soft = solve(constraints, plan.norm, left, penalty=plan.penalty, equalities=equalities, tick=tick)
    missed = int((soft.slack > 1e-6).sum())
    note(
        f"softened at penalty {plan.penalty:g}: {missed} points fall short of their margin; "
        f"{describe(plan.norm, soft)}"
    )
    return soft


def verdict(found: Solution) -> str:
    """Whether an optimum is proved: the multipliers bound it from below up to rounding."""
    certain = found.gap <= CERTAIN * (1 + abs(found.value))
    return "proved optimal" if certain else "optimal according to the solver (the duality gap is not closed)"


def describe(norm: Norm, found: Solution) -> str:
    """Returns the optimum with its norms and the size of the program."""
    size = np.abs(found.delta)
    return (
        f"optimum {found.value:.9g} of {norm.objective} (duality gap {found.gap:.1g}, "
        f"L1 {size.sum():.6g}, Linf {size.max(initial=0.0):.6g},"
        f" {int((size > 1e-12).sum())} of {len(size)} changed; {found.rows} rows in {found.rounds} programs)"
    )
