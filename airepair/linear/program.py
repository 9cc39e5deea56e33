"""Solves a linear program over a change of weights, a large one by constraint generation.

A program starts with the hardest row of each point, and takes in the rows that are violated most, a
batch at a time, until none is left: its optimum is then the optimum of the whole program, and if a
part is infeasible so is the whole. Most rows never bind: of prdnn's 1,683 rows on digits-fc the
optimum needs 135.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy import sparse

from airepair.errors import Unsupported
from airepair.linear.highs import TOLERANCE, Limits, Norm, Program, out_of_time
from airepair.linear.margins import Array, Index

BATCH = 500  # rows that are taken in at once, and up to which a program is solved whole
WHOLE = (
    2000  # rows up to which all of them must fit into the size limit, whether or not they will all be needed
)


class Constraints(Protocol):
    """It holds rows G change >= rhs.

    `group`: rows with the same number share one slack, -1 for none; `entries`: numbers in a row, at
    most.
    """

    @property
    def size(self) -> int:
        """Returns the number of variables."""
        ...

    @property
    def rhs(self) -> Array:
        """Returns the right-hand sides."""
        ...

    @property
    def group(self) -> Index:
        """Returns the slack groups."""
        ...

    @property
    def entries(self) -> int:
        """Returns the numbers in one row."""
        ...

    def rows(self, index: Index) -> sparse.csr_array:
        """Returns some rows of G."""
        ...

    def values(self, delta: Array) -> Array:
        """Returns G delta."""
        ...


@dataclass(frozen=True, eq=False)
class Solution:
    """Proved optimal, or proved infeasible (then `delta` is zero). `slack`: one per group; `rows`: in
    the last program; `rounds`: programs.

    `gap`: no change costs less than `value` by more than that (see highs.Optimum).
    """

    status: Literal["optimal", "infeasible"]
    delta: Array
    value: float
    gap: float
    slack: Array
    rows: int
    rounds: int
    seconds: float


def solve(
    constraints: Constraints,
    norm: Norm,
    limits: Limits,
    *,
    penalty: float | None = None,
    equalities: sparse.csr_array | None = None,
    batch: int = BATCH,
    tick: Callable[[int, float], None] = lambda *_: None,
) -> Solution:
    """Returns the proved optimum, or the proof that there is none. With `penalty` the rows of a
    group may miss by a common slack at that price.

    Up to `batch` rows are solved whole, more by constraint generation; `tick(round, worst
    violation)` after each program. Unsupported if a limit is passed or HiGHS fails.
    """
    start, rhs, group = time.monotonic(), constraints.rhs, constraints.group
    slacks = int(group.max(initial=-1)) + 1 if penalty is not None else 0
    active = np.arange(len(rhs)) if len(rhs) <= batch else _hardest(rhs, group)
    check_size(to_fit(len(rhs), len(active)), constraints.size, constraints.entries, limits)
    matrix = constraints.rows(active)
    for number in range(1, 10_000):
        left = limits.seconds - (time.monotonic() - start)
        if left <= 0:
            raise Unsupported(out_of_time(limits, len(active), constraints.size))
        program = Program(matrix, rhs[active], group[active], norm, penalty, slacks, equalities)
        found = program.run(left, limits)
        seconds = time.monotonic() - start
        if found is None:
            return Solution(
                "infeasible",
                np.zeros(constraints.size),
                np.inf,
                0.0,
                np.zeros(slacks),
                len(active),
                number,
                seconds,
            )
        delta, slack = found.change, found.slack
        missing = rhs - constraints.values(delta)
        if slacks:
            missing -= np.where(group >= 0, slack[group], 0.0)
        missing[active] = 0
        tick(number, float(missing.max(initial=0.0)))
        if missing.max(initial=0.0) <= 10 * TOLERANCE:
            return Solution("optimal", delta, found.value, found.gap, slack, len(active), number, seconds)
        worst = np.argsort(-missing, kind="stable")[:batch]
        new = np.sort(worst[missing[worst] > 10 * TOLERANCE])
        active = np.concatenate([active, new])
        check_size(len(active), constraints.size, constraints.entries, limits)
        matrix = sparse.csr_array(sparse.vstack([matrix, constraints.rows(new)], format="csr"))
    raise Unsupported("constraint generation did not end")


def _hardest(rhs: Array, group: Index) -> Index:
    """Per soft or repaired point the row that lacks most (the runner-up class first); rows without
    a point when they lack something.
    """
    order = np.lexsort((-rhs, group))
    first = np.ones(len(order), dtype=bool)
    first[1:] = group[order][1:] != group[order][:-1]
    chosen = order[first & (group[order] >= 0)]
    free = np.flatnonzero((group < 0) & (rhs > 0))
    found: Index = np.sort(np.concatenate([chosen, free]))
    return found


def to_fit(rows: int, hardest: int) -> int:
    """How many rows the size limit must have room for at the start: all where they are few, else
    the hardest of each point.
    """
    return rows if rows <= WHOLE else hardest


def check_size(rows: int, weights: int, entries: int, limits: Limits) -> None:
    """Raises Unsupported if a program of so many rows, with up to `entries` numbers in a row, is over
    the size limit.
    """
    # Each number stands twice: for the positive and for the negative part of the change.
    total = 2 * rows * entries
    if total > limits.entries:
        raise Unsupported(
            f"the linear program has up to {total:,} entries ({rows:,} rows, {weights:,} weights), "
            f"more than entries={limits.entries:,};"
            " repair fewer points, keep fewer inputs or choose a smaller layer"
        )
