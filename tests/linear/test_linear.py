"""Linear programs over one layer: optima, proofs, constraint generation, limits."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from scipy import sparse
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from airepair.errors import Unsupported, UsageError
from airepair.linear.decoupled import Decoupled, fold
from airepair.linear.effect import effect
from airepair.linear.highs import Limits, Norm, Program
from airepair.linear.margins import Array, Index, Margins, orders, winning
from airepair.linear.program import Solution, solve
from airepair.linear.proof import CERTAIN, Plan, settle, verdict
from airepair.methods.aprnn import APRNN
from airepair.methods.minimal import Minimal
from airepair.methods.prdnn import PRDNN
from airepair.models.layers import change, exact, final_site, find_site, sites
from airepair.testing import toy
from airepair.types import Task


@pytest.fixture(scope="module")
def plain() -> Task:
    """A fully connected ReLU network with failing inputs."""
    return toy.task("plain")


@pytest.fixture(scope="module")
def cnn() -> Task:
    """Convolution, batch norm, ReLU, max pool, two linear layers."""
    return toy.task("cnn")


def last_layer(task: Task, margin: float = 0.05, kept: int = 0) -> Margins:
    """Rows of the last layer for the failing inputs, and for the first `kept` passing ones."""
    both = task.failing + task.passing.select(torch.arange(kept))
    module = exact(task.module)
    x = both.images().double()
    return winning(effect(module, final_site(module, x), x), both.y, margin, kept)


@dataclass(frozen=True)
class Rows:
    """A program written by hand: `g` x change >= rhs."""

    g: Array
    rhs: Array
    group: Index

    @property
    def size(self) -> int:
        return int(self.g.shape[1])

    @property
    def entries(self) -> int:
        return self.size

    def rows(self, index: Index) -> sparse.csr_array:
        return sparse.csr_array(self.g[index])

    def values(self, delta: Array) -> Array:
        found: Array = self.g @ delta
        return found


def by_hand(g: list[list[float]], rhs: list[float]) -> Rows:
    """Rows that all must hold."""
    return Rows(np.array(g), np.array(rhs), np.full(len(rhs), -1))


def test_optima_of_a_program_solved_by_hand() -> None:
    """x + y >= 2 and x >= 1.5: L1 costs 2, Linf 1.5, Linf + mean 1.5 + 1 with both norms at their least."""
    program = by_hand([[1, 1], [1, 0]], [2, 1.5])
    for objective, value in (("l1", 2.0), ("linf", 1.5), ("linf+l1", 2.5)):
        found = solve(program, Norm(objective), Limits())  # type: ignore[arg-type]
        assert found.status == "optimal"
        assert found.value == pytest.approx(value, abs=1e-9)


def test_nothing_changes_where_the_constraints_already_hold(plain: Task) -> None:
    """Passing inputs win already by margin 0: the optimum is 0 and so is the change, whatever the norm."""
    module = exact(plain.module)
    x = plain.passing.images().double()
    rows = winning(effect(module, final_site(module, x), x), plain.passing.y, 0.0)
    for objective in ("l1", "linf", "linf+l1"):
        found = solve(rows, Norm(objective), Limits())  # type: ignore[arg-type]
        assert found.value == 0
        assert not found.delta.any()


@pytest.mark.parametrize("objective", ["l1", "linf", "linf+l1"])
@pytest.mark.parametrize("penalty", [None, 3.0])
def test_an_optimum_comes_with_a_bound_from_below(plain: Task, objective: str, penalty: float | None) -> None:
    """The duality gap of the real last layer is rounding, whole, by constraint generation, bounded
    and softened.
    """
    rows, norm = last_layer(plain, kept=60), Norm(objective, 0.3 if penalty else 3.0)  # type: ignore[arg-type]
    for batch in (2000, 20):
        found = solve(rows, norm, Limits(), penalty=penalty, batch=batch)
        assert found.value > 0.1
        assert abs(found.gap) < 1e-7 * (1 + found.value)


def test_a_wrong_multiplier_shows_in_the_gap() -> None:
    """x + y >= 2 costs 2: half the multiplier bounds it by 1 only, and one of twice the size no better.

    Never is the gap below zero.
    """
    g, rhs = sparse.csr_array(np.array([[1.0, 1.0]])), np.array([2.0])
    program = Program(g, rhs, np.array([-1]), Norm("l1"), None, 0, None)
    found = program._highs("highs", {})
    gaps = {}
    for factor in (0.0, 0.5, 1.0, 2.0):
        wrong = SimpleNamespace(ineqlin=SimpleNamespace(marginals=factor * found.ineqlin.marginals))
        gaps[factor] = 2.0 - program._least(wrong, 2.0)  # type: ignore[arg-type]
    assert gaps[1.0] == pytest.approx(0, abs=1e-12)
    assert gaps[0.5] == pytest.approx(1)
    assert gaps[0.0] == pytest.approx(2)
    assert gaps[2.0] >= 1


def test_an_optimum_that_is_not_certified_is_not_called_proved() -> None:
    """The verdict follows the gap."""
    found = solve(by_hand([[1.0]], [2.0]), Norm("l1"), Limits())
    assert verdict(found) == "proved optimal"


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_gap_of_exactly_the_limit_is_proved_and_the_next_number_is_not(value: float) -> None:
    """The claim is that at most so much less is possible; a gap that is no number proves nothing."""
    found = solve(by_hand([[1.0]], [2.0]), Norm("l1"), Limits())
    limit = CERTAIN * (1 + abs(value))
    assert verdict(replace(found, value=value, gap=limit)) == "proved optimal"
    for gap in (np.nextafter(limit, 1.0), float("nan")):
        assert "not closed" in verdict(replace(found, value=value, gap=gap))
    assert "according to the solver" in verdict(replace(found, gap=1e-3))


def test_the_bound_makes_a_program_infeasible_and_that_is_proved() -> None:
    """x >= 2 within |x| <= 1 has no solution; without the bound it has."""
    program = by_hand([[1.0]], [2.0])
    assert solve(program, Norm("l1", bound=1.0), Limits()).status == "infeasible"
    assert solve(program, Norm("l1"), Limits()).value == pytest.approx(2.0)


def test_contradictory_labels_are_proved_infeasible(plain: Task) -> None:
    """One image cannot be of two classes."""
    module = exact(plain.module)
    x = plain.failing.images(torch.tensor([0, 0])).double()
    rows = winning(effect(module, final_site(module, x), x), torch.tensor([0, 1]), 0.05)
    assert solve(rows, Norm(), Limits()).status == "infeasible"
    assert solve(rows, Norm(), Limits(), batch=1).status == "infeasible"


@pytest.mark.parametrize("objective", ["l1", "linf", "linf+l1"])
def test_constraint_generation_equals_the_whole_program(plain: Task, objective: str) -> None:
    """Growing the program row by row ends at the optimum of the whole one, with fewer rows, and
    violates none of the rest.
    """
    rows = last_layer(plain, kept=60)
    whole = solve(rows, Norm(objective), Limits(), batch=len(rows.rhs))  # type: ignore[arg-type]
    grown = solve(rows, Norm(objective), Limits(), batch=20)  # type: ignore[arg-type]
    assert grown.value == pytest.approx(whole.value, abs=1e-8)
    assert grown.rounds > 1
    assert grown.rows < whole.rows == len(rows.rhs)
    assert (rows.values(grown.delta) - rows.rhs).min() > -1e-7


@pytest.mark.parametrize("batch", [20, 100])
def test_few_rows_of_an_inner_layer_give_the_optimum_of_all(cnn: Task, batch: int) -> None:
    """prdnn's program over a convolution: a batch at a time it ends at the optimum of all rows
    solved at once, proved, and holds every row.
    """
    module = exact(cnn.module)
    both = cnn.failing + cnn.passing
    x = both.images().double()
    rows = winning(effect(module, find_site(module, x, "-3"), x), both.y, 0.05, len(cnn.passing))
    whole, grown = (solve(rows, Norm("linf+l1", 3.0), Limits(), batch=b) for b in (len(rows.rhs), batch))
    assert whole.rounds == 1
    assert grown.rounds > 1
    assert grown.rows < whole.rows / 2
    assert grown.value == pytest.approx(whole.value, rel=1e-7)
    assert verdict(grown) == "proved optimal"
    assert (rows.values(grown.delta) - rows.rhs).min() > -1e-7


def test_the_size_limit_counts_all_rows_of_a_program_that_might_need_them(plain: Task) -> None:
    """Although few of the rows would be solved: what is refused does not depend on how the solver
    goes about it.
    """
    rows = last_layer(plain, kept=60)
    assert solve(rows, Norm(), Limits(entries=2 * len(rows.rhs) * rows.entries), batch=20).status == "optimal"
    with pytest.raises(Unsupported, match=rf"\({len(rows.rhs)} rows, "):
        solve(rows, Norm(), Limits(entries=2 * len(rows.rhs) * rows.entries - 1), batch=20)


def test_constraint_generation_equals_the_whole_softened_program(plain: Task) -> None:
    """The same with a shared slack for each point."""
    rows = last_layer(plain, margin=1.0, kept=60)
    whole = solve(rows, Norm("l1", 0.1), Limits(), penalty=10.0, batch=len(rows.rhs))
    grown = solve(rows, Norm("l1", 0.1), Limits(), penalty=10.0, batch=20)
    assert whole.slack.sum() > 0.1
    assert grown.value == pytest.approx(whole.value, abs=1e-7)


def test_the_change_solves_the_network_itself(plain: Task) -> None:
    """Put into the float64 network, the change lets every failing input win by the margin, to the
    solver's tolerance.
    """
    rows = last_layer(plain)
    found = solve(rows, Norm("linf"), Limits())
    module = exact(plain.module)
    x = plain.failing.images().double()
    change(final_site(module, x).layer(module), *rows.effect.split(torch.from_numpy(found.delta)))
    logits = module(x).detach()
    own = logits.gather(1, plain.failing.y[:, None])
    others = logits.scatter(1, plain.failing.y[:, None], -torch.inf)
    assert float((own - others.max(1, keepdim=True).values).min()) == pytest.approx(0.05, abs=1e-7)


def test_kept_points_never_make_a_program_infeasible(plain: Task) -> None:
    """No change at all satisfies their rows, even those that win by less than the margin."""
    module = exact(plain.module)
    x = plain.passing.images().double()
    rows = winning(effect(module, final_site(module, x), x), plain.passing.y, 5.0, kept=len(x))
    assert rows.rhs.max() <= 0


def test_limits_end_in_a_clear_refusal(plain: Task) -> None:
    """Too many entries, or too little time: Unsupported says which limit and what to do."""
    rows = last_layer(plain)
    with pytest.raises(Unsupported, match=r"entries=10;"):
        solve(rows, Norm(), Limits(entries=10))
    with pytest.raises(Unsupported, match=r"did not finish in seconds=0"):
        solve(rows, Norm("linf"), Limits(seconds=0.0))


def test_an_infeasible_program_is_noted_and_softened_or_refused() -> None:
    """The proof is in the note either way; softened, the shortfall is priced."""
    program = Rows(np.array([[1.0]]), np.array([2.0]), np.array([0]))
    notes: list[str] = []
    found = settle(program, Plan(Norm("l1", 1.0), Limits(), 10.0, "x"), note=notes.append)
    assert "proved infeasible" in notes[0]
    assert "1 points fall short" in notes[1]
    assert found.delta.tolist() == [1.0]
    assert found.slack.tolist() == pytest.approx([1.0])
    with pytest.raises(Unsupported, match="proved infeasible"):
        settle(program, Plan(Norm("l1", 1.0), Limits(), None, "x"), note=notes.append)


def two_channels(module: nn.Sequential, edited: int, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The decoupled network written out: each channel through every layer, branches of the value
    channel from the activation channel.
    """
    a = v = x
    for number, part in enumerate(module):
        if isinstance(part, nn.ReLU):
            a, v = a.relu(), v * (a > 0)
        elif isinstance(part, nn.MaxPool2d):
            a, index = nn.functional.max_pool2d(a, 2, return_indices=True)
            v = v.flatten(2).gather(2, index.flatten(2)).reshape(a.shape)
        else:
            a, v = part(a), (layer if number == edited else part)(v)
    return v


@pytest.mark.parametrize("where", [-3, -2, -1])
@pytest.mark.parametrize("kind", ["plain", "cnn"])
def test_affine_prediction_decoupled_network_and_two_written_out_channels_agree(
    kind: str, where: int, request: pytest.FixtureRequest
) -> None:
    """To 1e-8 in float64, for a linear or convolutional layer anywhere, below batch norm, ReLU and
    max pool, for a large change.
    """
    task: Task = request.getfixturevalue(kind)
    module = exact(task.module)
    assert isinstance(module, nn.Sequential)
    x = task.passing.images().double()
    site = find_site(module, x, str(where))
    answers = effect(module, site, x, batch_size=50)
    delta = torch.randn(answers.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = Decoupled(module, site)
    change(network.value, *answers.split(delta))
    with torch.no_grad():
        predicted, decoupled = answers.logits + answers.shift(delta), network(x)
        written = two_channels(module, int(site.name), network.value, x)
    assert float((decoupled - answers.logits).abs().max()) > 0.5
    assert float((predicted - decoupled).abs().max()) < 1e-8
    assert float((written - decoupled).abs().max()) < 1e-8


def test_rows_and_values_agree(cnn: Task) -> None:
    """The sparse rows of a convolution times a change are what `values` says without building them."""
    module = exact(cnn.module)
    x = cnn.failing.images().double()
    rows = winning(effect(module, find_site(module, x, "-3"), x), cnn.failing.y, 0.05)
    delta = np.random.default_rng(0).normal(size=rows.size)
    index = np.arange(0, len(rows.rhs), 3)
    assert np.allclose(rows.rows(index) @ delta, rows.values(delta)[index], atol=1e-10)


def test_a_decoupled_network_lives_through_state_dict_copy_training_mode_and_inference_mode(
    cnn: Task,
) -> None:
    """Its output is the same after each of them."""
    site = find_site(cnn.module, cnn.failing.images(), "-2")
    network = Decoupled(copy.deepcopy(cnn.module), site)
    with torch.no_grad():
        network.value.weight.mul_(1.5)
    x = cnn.failing.images()
    want = network(x).detach()
    fresh = Decoupled(toy.architecture("cnn"), site)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(x), want)
    assert torch.equal(copy.deepcopy(network)(x), want)
    assert torch.equal(network.train()(x), want)
    with torch.inference_mode():
        assert torch.equal(network(x.clone()), want)
    with torch.no_grad():
        assert not network(x).requires_grad


def test_a_decoupled_network_takes_no_root_of_the_processors_library(cnn: Task) -> None:
    """Through batch normalisation the derivative is PyTorch's own to rounding, and `torch.sqrt`
    never sees 32-bit numbers.
    """
    site = find_site(cnn.module, cnn.failing.images(), "0")
    network = Decoupled(copy.deepcopy(cnn.module), site)
    norms = [m for m in network.activation.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        network.value.weight.mul_(1.5)
        for norm in norms:
            norm.running_var.mul_(3.0)
            norm.weight.mul_(-0.7)
    seen: list[torch.dtype] = []

    class Roots(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.ops.aten.sqrt.default:
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    x = cnn.failing.images()
    with Roots():
        logits = network(x).detach()
    assert norms
    assert seen == [torch.float64] * len(norms)
    layer = network.activation.get_submodule(site.name)
    with forward_ad.dual_level():
        handle = layer.register_forward_hook(
            lambda _, args, out: forward_ad.make_dual(out, network.value(args[0]) - out)
        )
        primal, change = forward_ad.unpack_dual(network.activation(x))
        handle.remove()
    assert torch.allclose(logits, primal + change, atol=1e-4)
    assert float(change.detach().abs().max()) > 0.1


def test_folding_the_last_layer_is_the_same_function(cnn: Task) -> None:
    """Both channels agree up to the last layer, so one is enough; for an earlier layer it is not."""
    x = cnn.failing.images().double()
    for which, same in (("-1", True), ("-2", False)):
        network = Decoupled(exact(cnn.module), find_site(cnn.module, cnn.failing.images(), which))
        with torch.no_grad():
            network.value.weight.mul_(-1.0)
        assert torch.allclose(network(x), fold(network)(x), atol=1e-10) is same


def test_layers_are_found_in_order_and_a_wrong_name_lists_them(cnn: Task) -> None:
    """Sites come as they run; only the last gives the logits."""
    x = cnn.failing.images()
    assert [(s.name, s.final) for s in sites(cnn.module, x)] == [("0", False), ("5", False), ("7", True)]
    with pytest.raises(UsageError, match=r"layer 'fc'.*0 \(-3\), 5 \(-2\), 7 \(-1\)"):
        find_site(cnn.module, x, "fc")


def test_a_module_that_goes_on_after_its_last_layer_has_no_final_layer(plain: Task) -> None:
    """A scaled or normalised output is not affine in the weights in the way that a last-layer
    repair needs.
    """
    with pytest.raises(Unsupported, match="something runs after"):
        final_site(nn.Sequential(plain.module, nn.LogSoftmax(1)), plain.failing.images())


def test_orders_between_chosen_classes(plain: Task) -> None:
    """A row for each triple alone: the runner-up must reach the winner (a published
    watermark-removal specification, margin 0).
    """
    module = exact(plain.module)
    x = plain.passing.images(slice(0, 3)).double()
    answers = effect(module, final_site(module, x), x)
    top = answers.logits.topk(2, 1).indices
    rows = orders(answers, torch.stack([torch.arange(3), top[:, 1], top[:, 0]], 1), 0.0)
    found = solve(rows, Norm("linf"), Limits())
    after = answers.logits + answers.shift(torch.from_numpy(found.delta))
    gap = after.gather(1, top[:, 1:]) - after.gather(1, top[:, :1])
    assert float(gap.min()) > -1e-8
    assert found.value > 0


def test_equalities_bind_the_change_and_not_its_size() -> None:
    """x >= 2 with x + y = 0: y goes down by as much as x goes up."""
    program, tied = by_hand([[1.0, 0.0]], [2.0]), sparse.csr_array(np.array([[1.0, 1.0]]))
    found = solve(program, Norm("l1"), Limits(), equalities=tied)
    assert found.status == "optimal"
    assert found.delta.tolist() == pytest.approx([2.0, -2.0])
    assert found.value == pytest.approx(4.0)


def test_a_program_without_a_solution_has_no_change_no_gap_and_an_infinite_cost() -> None:
    """What is proved leaves nothing open."""
    found = solve(by_hand([[1.0]], [2.0]), Norm("l1", bound=1.0), Limits())
    assert found.status == "infeasible"
    assert (found.delta.tolist(), found.value, found.gap) == ([0.0], np.inf, 0.0)


def test_the_softened_program_has_the_seconds_that_the_proof_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 seconds the proof takes 3: 7 are left. Where it took them all, a hundredth is left."""
    asked: list[float] = []
    program = Rows(np.array([[1.0]]), np.array([2.0]), np.array([0]))
    for took, left in ((3.0, 7.0), (11.0, 0.01)):

        def timed(rows: Rows, norm: Norm, limits: Limits, took: float = took, **more: Any) -> Solution:
            asked.append(limits.seconds)
            return replace(solve(rows, norm, Limits(), **more), seconds=took)

        asked.clear()
        monkeypatch.setattr("airepair.linear.proof.solve", timed)
        settle(program, Plan(Norm("l1", 1.0), Limits(10.0), 10.0, "x"), note=lambda _: None)
        assert asked == [10.0, left]


def test_slopes_of_more_than_a_thousand_million_numbers_are_refused_unasked() -> None:
    """4,000 images, 1,000 classes and 4,000 outputs of the layer; refused before any slope is held."""
    module = nn.Sequential(nn.Linear(1, 4000), nn.ReLU(), nn.Linear(4000, 1000)).eval()
    x = torch.zeros(4000, 1)
    with pytest.raises(Unsupported, match="16,000,000,000 numbers, more than entries=1,000,000,000;"):
        effect(module, find_site(module, x, "0"), x)


def test_a_program_gives_up_after_the_same_seconds_as_the_methods_that_solve_one() -> None:
    """The methods' default limit of time, said in their options, is that of a program without one."""
    assert {Minimal().seconds, APRNN().seconds, PRDNN().seconds} == {Limits().seconds}
