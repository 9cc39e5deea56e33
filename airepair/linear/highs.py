"""One linear program in the form that HiGHS takes (through scipy), and its verdict: an optimum, a
proof that there is none, or a limit passed.

    minimise   norm(change) + penalty * sum(slack)     subject to   G change + slack >= rhs,
    |change| <= bound,  E change = 0

The change is split into its positive and its negative part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # scipy.optimize is loaded when it is first used
from scipy import sparse

from airepair.errors import Unsupported
from airepair.linear.margins import Array, Index

Objective = Literal["l1", "linf", "linf+l1"]
# HiGHS takes no tolerance below 1e-10; published optima come back to 1e-9 with this one.
TOLERANCE = 1e-9
# Numbers in a program from which on the interior point method (with crossover to a vertex) is tried
# first. On prdnn's rows (digits, FC, 48 to 135 rows of 2,080 weights) it takes .6 to .8 s of one
# core, the simplex method 1.9 to 2.8 s.
DENSE = 50_000


@dataclass(frozen=True)
class Norm:
    """What is minimised, summed over blocks of variables (their sizes in order; () is one block): L1,
    L-infinity, or the latter plus the mean |.|.

    Only the first `bounded` variables (None: all) are held within +-bound.
    """

    objective: Objective = "l1"
    bound: float | None = None
    blocks: tuple[int, ...] = ()
    bounded: int | None = None


@dataclass(frozen=True)
class Limits:
    """It says when to give up: seconds of solving, and non-zero numbers in the program."""

    seconds: float = 120.0
    entries: int = 20_000_000


@dataclass(frozen=True, eq=False)
class Optimum:
    """It holds change, slacks and what they cost; `gap`: at most so much less might be possible (0
    up to rounding: the optimum is certified).
    """

    change: Array
    slack: Array
    value: float
    gap: float


def out_of_time(limits: Limits, rows: int, weights: int) -> str:
    """Why the solver was stopped."""
    return (
        f"HiGHS did not finish in seconds={limits.seconds:g} ({rows:,} rows, {weights:,} weights); "
        f"allow more seconds, or repair fewer points"
    )


class Program:
    """It is one program in HiGHS's form.

    Columns: positive parts (V), negative parts (V), a bound on |.| for each block, slacks.
    """

    def __init__(
        self,
        matrix: sparse.csr_array,
        rhs: Array,
        group: Index,
        norm: Norm,
        penalty: float | None,
        slacks: int,
        equalities: sparse.csr_array | None,
    ) -> None:
        self.size, self.slacks = matrix.shape[1], slacks
        blocks = norm.blocks or (self.size,)
        self.caps = 0 if norm.objective == "l1" else len(blocks)
        each = {
            "l1": [1.0 for _ in blocks],
            "linf": [0.0 for _ in blocks],
            "linf+l1": [1 / b for b in blocks],
        }[norm.objective]
        weight = np.repeat(each, blocks)
        self.cost = np.concatenate([weight, weight, np.ones(self.caps), np.full(slacks, penalty or 0.0)])
        bound = np.full(self.size, np.inf)
        bound[: norm.bounded] = np.inf if norm.bound is None else norm.bound
        top = np.concatenate([bound, bound, np.full(self.caps + slacks, np.inf)])
        self.bounds = np.stack([np.zeros_like(top), top], 1)
        upper = [
            sparse.hstack(
                [-matrix, matrix, self._zeros(len(rhs), self.caps), self._slack(group)], format="csr"
            )
        ]
        self.upper_rhs = -rhs
        if self.caps:
            eye = sparse.eye_array(self.size, format="csr")
            owner = np.repeat(np.arange(len(blocks)), blocks)
            cap = sparse.csr_array(
                (-np.ones(self.size), (np.arange(self.size), owner)), shape=(self.size, self.caps)
            )
            upper.append(sparse.hstack([eye, eye, cap, self._zeros(self.size, slacks)], format="csr"))
            self.upper_rhs = np.concatenate([self.upper_rhs, np.zeros(self.size)])
        self.upper = sparse.vstack(upper, format="csr")
        self.equal = None
        if equalities is not None:
            self.equal = sparse.hstack(
                [equalities, -equalities, self._zeros(equalities.shape[0], self.caps + slacks)], format="csr"
            )

    def _zeros(self, rows: int, columns: int) -> sparse.csr_array:
        return sparse.csr_array((rows, columns))

    def _slack(self, group: Index) -> sparse.csr_array:
        if not self.slacks:
            return self._zeros(len(group), 0)
        row = np.flatnonzero(group >= 0)
        return sparse.csr_array((-np.ones(len(row)), (row, group[row])), shape=(len(group), self.slacks))

    def run(self, seconds: float, limits: Limits) -> Optimum | None:
        """Returns the optimum; None if HiGHS proves that there is no solution."""
        start = time.monotonic()
        tight = {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
        first = "highs-ipm" if self.numbers > DENSE else "highs"
        for method, options in ((first, tight), ("highs", {"presolve": False})):
            left = seconds - (time.monotonic() - start)
            found = self._highs(method, {"time_limit": max(0.01, left), **options})
            if found.status == 2:
                return None
            if found.status == 0:
                x, value = found.x, float(found.fun)
                change, slack = x[: self.size] - x[self.size : 2 * self.size], x[2 * self.size + self.caps :]
                return Optimum(change, slack, value, value - self._least(found, value))
            if found.status == 1:
                raise Unsupported(out_of_time(limits, self.upper.shape[0], self.size))
        raise Unsupported("HiGHS gave up on numerical grounds, with and without presolve")

    def _least(self, found: scipy.optimize.OptimizeResult, value: float) -> float:
        """No solution costs less than this: weak duality for HiGHS's multipliers, whatever they are,
        among solutions that cost `value` or less.

        In such a solution no column is above `value` (a slack: above `value` / penalty), since each
        part of the change costs that much or lies below a bound that does.
        """
        multipliers = np.minimum(found.ineqlin.marginals, 0)
        reduced = self.cost - self.upper.T @ multipliers
        if self.equal is not None:
            reduced -= self.equal.T @ found.eqlin.marginals
        most = np.full(len(self.cost), value)
        most[2 * self.size + self.caps :] /= self.cost[2 * self.size + self.caps :]
        most = np.minimum(np.where(np.isfinite(most), most, np.inf), self.bounds[:, 1])
        low = np.minimum(reduced, 0)
        return float(self.upper_rhs @ multipliers + (low[low < 0] * most[low < 0]).sum())

    @property
    def numbers(self) -> int:
        """Returns the non-zero numbers in the program."""
        return int(self.upper.nnz) + (0 if self.equal is None else int(self.equal.nnz))

    def _highs(self, method: str, options: dict[str, object]) -> scipy.optimize.OptimizeResult:
        return scipy.optimize.linprog(
            self.cost,
            A_ub=self.upper,
            b_ub=self.upper_rhs,
            A_eq=self.equal,
            b_eq=None if self.equal is None else np.zeros(self.equal.shape[0]),
            bounds=self.bounds,
            method=method,
            options=options,
        )
