"""Beside installed packages, at equal results: torchattacks for projected gradient descent, scipy's
linear programs for the smallest repair.

torchattacks pins an old `requests`, so it is in no extra: `pip install --no-deps torchattacks`. If
it is not installed its lines are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from scipy import optimize, sparse
from torch import Tensor, nn

from airepair.constraints.counterexamples import BoxGround, Search, best_of_restarts, frozen
from airepair.data import load
from airepair.evaluation.exam import sit
from airepair.linear.effect import effect
from airepair.linear.highs import Limits, Norm
from airepair.linear.margins import Margins, winning
from airepair.linear.program import solve
from airepair.models.layers import exact, final_site
from airepair.training.best_state import fit
from airepair.types import Recipe

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_CNN, SMALL_RESNET, Net
from .timing import Measure, compared

EPSILON, SEARCH = 8 / 255, Search(steps=20, step_size=2 / 255)
PENALTY = 1000.0  # price of a row that is missed: the program has a solution whatever the points


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """The attack on three networks, then the program of `minimal`."""
    if find_spec("torchattacks") is None:
        print("packages: torchattacks is not installed (pip install --no-deps torchattacks)")
    else:
        for net, n in ((DIGITS_CNN, 128), (MNIST_CNN, 64), (SMALL_RESNET, 32)):
            yield attack(net, max(4, int(n * share)), device, repeats)
    if device.type == "cpu":
        yield program(repeats, share)


def attack(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """Cross-entropy made large within 8/255, from the images themselves; torchattacks returns its
    last point, ours is the best one on the way.
    """
    module, data = net.module(device).eval(), net.images(n, device)
    x, y = data.images(), data.y
    theirs = import_module("torchattacks").PGD(
        module, EPSILON, SEARCH.step_size, SEARCH.steps, random_start=False
    )

    def objective(z: Sequence[Tensor]) -> Tensor:
        return -nn.functional.cross_entropy(module(z[0]), y, reduction="none")

    def ours() -> Tensor:
        with frozen(module):
            return best_of_restarts(objective, [BoxGround(x, EPSILON)], [x], n, SEARCH)[0][0]

    found, other = ours(), theirs(x, y)
    with torch.no_grad():
        lacking = objective([found]) - objective([other])
        outside = (found - x).abs().amax() - EPSILON
    if float(lacking.amax()) > 1e-5 or float(outside) > 1e-6:
        raise RuntimeError(
            f"{net.name}: torchattacks finds a loss that is higher by {float(lacking.amax()):.2e}"
        )
    ratios, seconds = compared(lambda: theirs(x, y), ours, repeats, device)
    facts = {"theirs_is_higher_by": max(0.0, float(lacking.amax()))}
    return Measure(
        "packages",
        f"{net.name}, {n} images, {SEARCH.steps} steps of PGD",
        "torchattacks",
        "ours",
        tuple(ratios),
        tuple(seconds),
        n,
        facts=facts,
    )


def program(repeats: int, share: float) -> Measure:
    """The smallest change (L1) of the last layer of a digits network with which its wrong answers
    are right and its right ones stay.
    """
    rows, points = margins(share)
    ratios, seconds = compared(lambda: by_scipy(rows), lambda: ours(rows), repeats, torch.device("cpu"))
    facts = {"largest_difference": abs(by_scipy(rows) - ours(rows)) / max(1.0, abs(ours(rows)))}
    if facts["largest_difference"] > 1e-6:
        raise RuntimeError(f"the optima differ by {facts['largest_difference']:.2e}")
    name = f"digits fc, last layer, {points} points ({len(rows.rhs):,} rows, {rows.size} weights)"
    return Measure(
        "packages", name, "scipy.optimize.linprog", "ours", tuple(ratios), tuple(seconds), points, facts=facts
    )


def margins(share: float) -> tuple[Margins, int]:
    """The rows of a network that was trained for two epochs, and how many images they are of."""
    data = load("digits", seed=0)
    module = DIGITS_FC.module(torch.device("cpu"))
    fit(module, data.train, None, Recipe(epochs=2), torch.Generator().manual_seed(0))
    some = data.repair.select(torch.arange(max(40, int(share * len(data.repair)))))
    right = sit(module, some).right
    both = some.select(~right) + some.select(right)
    site = final_site(module, both.images(slice(0, 2)))
    with torch.no_grad():
        answers = effect(exact(module), site, both.images().double())
    return winning(answers, both.y, 0.05, int(right.sum())), len(both)


def ours(rows: Margins) -> float:
    """The optimum by constraint generation."""
    return solve(rows, Norm("l1"), Limits(), penalty=PENALTY).value


def by_scipy(rows: Margins) -> float:
    """The optimum of the whole program, as one writes it down for scipy."""
    matrix, group, v = rows.rows(np.arange(len(rows.rhs))), rows.group, rows.size
    slacks = int(group.max()) + 1
    soft = np.flatnonzero(group >= 0)
    slack = sparse.csr_array((-np.ones(len(soft)), (soft, group[soft])), shape=(len(group), slacks))
    upper = sparse.hstack([-matrix, matrix, slack], format="csr")
    cost = np.concatenate([np.ones(2 * v), np.full(slacks, PENALTY)])
    found = optimize.linprog(cost, A_ub=upper, b_ub=-rows.rhs, bounds=(0, None), method="highs")
    if found.status:
        raise RuntimeError(found.message)
    return float(found.fun)
