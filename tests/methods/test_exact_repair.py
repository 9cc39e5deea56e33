"""minimal, prdnn, aprnn and memit: what the papers prove of them, on a toy subject."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace

import pytest
import torch

from airepair.case import Case
from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.linear.pattern import pattern_effect
from airepair.methods import build, prdnn
from airepair.methods.aprnn import APRNN, apply
from airepair.methods.memit import Memit, nearest_winning, write
from airepair.methods.minimal import Minimal
from airepair.methods.points import choose_points
from airepair.methods.prdnn import PRDNN
from airepair.models.layers import exact, sites
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.types import Meter, Method, Task


def fresh(task: Task, **other: object) -> tuple[Task, list[str]]:
    """The task with a module of its own, and the notes that it will gather."""
    notes: list[str] = []
    return dataclasses.replace(
        task, **{"module": copy.deepcopy(task.module), "note": notes.append, **other}
    ), notes  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> Task:
    """A fully connected ReLU network."""
    return toy.task("plain")


@pytest.fixture(scope="module")
def cnn() -> Task:
    """Convolution, batch norm, ReLU, max pool, two linear layers."""
    return toy.task("cnn")


def optimum(notes: list[str]) -> float:
    """The optimum that the first note states."""
    return float(notes[0].split("optimum ")[1].split()[0])


@pytest.mark.parametrize("objective", ["l1", "linf", "linf+l1"])
def test_minimal_repairs_every_point_and_breaks_no_kept_one(plain: Task, objective: str) -> None:
    """Proved optimal, and the float32 module agrees."""
    task, notes = fresh(plain)
    module = Minimal(objective=objective).repair(task)  # type: ignore[arg-type]
    assert "proved optimal" in notes[0]
    assert sit(module, plain.failing).accuracy == 1
    assert sit(module, plain.passing).accuracy == 1


def test_minimal_changes_the_last_layer_alone_and_l1_touches_few_weights(plain: Task) -> None:
    """Every other tensor is bit-equal; most of the last layer too under L1."""
    task, _ = fresh(plain)
    before = copy.deepcopy(plain.module.state_dict())
    after = Minimal(bias=False).repair(task).state_dict()
    assert [k for k in before if not torch.equal(before[k], after[k])] == ["5.weight"]
    assert int((before["5.weight"] != after["5.weight"]).sum()) < before["5.weight"].numel() / 2


def test_each_objective_is_smallest_in_its_own_norm(plain: Task) -> None:
    """No other objective's change has a smaller L1 or Linf norm than the one that minimises it."""
    changes = {}
    for objective in ("l1", "linf"):
        task, _ = fresh(plain)
        after = Minimal(objective=objective, bias=False).repair(task).state_dict()["5.weight"]  # type: ignore[arg-type]
        changes[objective] = after - plain.module.state_dict()["5.weight"]
    assert float(changes["l1"].abs().sum()) < float(changes["linf"].abs().sum())
    assert float(changes["linf"].abs().max()) < float(changes["l1"].abs().max())


def test_on_the_last_layer_prdnn_and_minimal_have_the_same_optimum(plain: Task) -> None:
    """With Linf, the same margin, bias and bounds, to 1e-9; with another margin they differ."""
    values = []
    methods: list[Method] = [
        Minimal(objective="linf", bound=3.0, keep=0),
        PRDNN(layer="last", keep=0, objective="linf", bound=3.0),
        PRDNN(layer="last", keep=0, objective="linf", bound=3.0, margin=0.1),
    ]
    for method in methods:
        task, notes = fresh(plain)
        method.repair(task)
        values.append(optimum(notes))
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    assert values[2] > values[0] + 1e-6


@pytest.mark.parametrize("layer", ["-3", "-2", "-1"])
def test_prdnn_repairs_every_point_in_the_decoupled_network(cnn: Task, layer: str) -> None:
    """A convolution below batch norm, ReLU and max pool as well as the linear layers: efficacy 1."""
    task, notes = fresh(cnn)
    module = PRDNN(layer=layer).repair(task)
    assert "proved optimal" in notes[0]
    assert sit(module, cnn.failing).accuracy == 1


def tried(notes: list[str]) -> dict[str, float]:
    """The layers that a note says were solved, with the validation accuracy of each."""
    (line,) = [n for n in notes if "the best on validation" in n]
    return {
        name: float(score)
        for name, score in (part.split() for part in line.split("(")[1].split(")")[0].split(", "))
    }


def test_prdnn_repairs_the_layer_that_is_best_on_validation(cnn: Task) -> None:
    """Every layer is solved, the last first; the network that comes back is the one of the note,
    and scores what the note says.
    """
    task, notes = fresh(cnn)
    module = PRDNN().repair(task)
    scores = tried(notes)
    assert list(scores) == ["7", "5", "0"]
    assert len(set(scores.values())) > 1
    chosen = max(scores, key=scores.__getitem__)
    assert notes[0].startswith(f"layer {chosen}, the best")
    alone = PRDNN(layer=chosen).repair(fresh(cnn)[0])
    assert torch.equal(sit(module, cnn.validation).logits, sit(alone, cnn.validation).logits)
    assert sit(module, cnn.validation).accuracy == pytest.approx(max(scores.values()), abs=1e-4)
    for layer, score in scores.items():
        assert sit(PRDNN(layer=layer).repair(fresh(cnn)[0]), cnn.validation).accuracy == pytest.approx(
            score, abs=1e-4
        )


def test_prdnn_leaves_out_what_it_cannot_solve_and_says_so(cnn: Task) -> None:
    """Over the size limit, or refused by the program itself: the others are still tried; a cell
    without any solved layer is refused.
    """
    task, notes = fresh(cnn, meter=Meter())
    task.module.register_forward_pre_hook(task.meter)
    PRDNN(entries=60_000).repair(task)
    assert list(tried(notes)) == ["7"]
    assert "left out 5: the linear program has up to" in notes[0]
    assert "left out 0: the slopes of layer '0' hold" in notes[0]
    assert task.meter.backward == 0, "what is too large is seen before any slope is computed"
    task, notes = fresh(cnn)
    PRDNN(bound=0.05, infeasible="refuse").repair(task)
    assert "left out 7: proved infeasible" in notes[0]
    assert "7" not in tried(notes)


def test_layers_without_time_left_are_left_out(cnn: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands at 500 seconds after the first layer: of 120 there are none for the second."""
    clock = iter([0.0, 500.0, 500.0, 500.0])
    monkeypatch.setattr(prdnn, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    task, notes = fresh(cnn)
    PRDNN().repair(task)
    assert list(tried(notes)) == ["7"]
    assert "left out 5: no time was left of seconds=120" in notes[0]


def test_kept_inputs_stay_right(plain: Task) -> None:
    """By default as many passing inputs as points are constraints, too: none of them breaks,
    without them some do.
    """
    broken = {}
    for keep in (0, 100):
        module = PRDNN(layer="last", keep=keep).repair(fresh(plain)[0])
        broken[keep] = int((~sit(module, plain.passing).right).sum())
    assert len(plain.passing) <= 100
    assert broken[100] == 0 < broken[0]


def test_folding_checks_the_points_again_and_says_how_many_hold(cnn: Task) -> None:
    """The single-channel network is another function; the note counts what it gets right, and the
    architecture is the subject's.
    """
    task, notes = fresh(cnn)
    module = PRDNN(layer="-3", fold=True).repair(task)
    right = int(sit(module, cnn.failing).right.sum())
    assert f"{right} of {len(cnn.failing)} points hold" in notes[-1]
    assert module.state_dict().keys() == cnn.module.state_dict().keys()


@pytest.mark.parametrize(
    "method", [Minimal(bound=1e-4, infeasible="refuse"), PRDNN(layer="last", bound=1e-4, infeasible="refuse")]
)
def test_infeasible_is_reported_as_a_proof(plain: Task, method: Method) -> None:
    """Within a tiny bound nothing can be repaired."""
    with pytest.raises(Unsupported, match="proved infeasible: no change of 5"):
        method.repair(fresh(plain)[0])


@pytest.mark.parametrize("method", ["minimal", "prdnn", "aprnn"])
@pytest.mark.parametrize(
    ("limit", "said"),
    [({"seconds": 1e-9}, "did not finish in seconds=1e-09"), ({"entries": 1}, "more than entries=1;")],
)
def test_a_limit_ends_the_cell_as_unsupported(method: str, limit: dict[str, float], said: str) -> None:
    """No endless run: the record says which limit was passed, with its value and what to do."""
    record = run(prepare(Case("toy", "plain", method, 0), toy.subject("plain"), build(method, limit))).record
    assert record.status == "unsupported"
    assert said in record.reason
    assert "fewer points" in record.reason


def test_a_softened_program_keeps_what_must_be_kept(plain: Task) -> None:
    """Within a small bound some points stay wrong, the notes say so, and no kept input breaks."""
    task, notes = fresh(plain)
    module = Minimal(bound=0.1).repair(task)
    assert "proved infeasible" in notes[0]
    assert "softened" in notes[1]
    assert 0 < int(sit(module, plain.failing).right.sum()) < len(plain.failing)
    assert sit(module, plain.passing).accuracy == 1


def test_a_cap_on_the_points_is_drawn_by_the_seed_and_noted(plain: Task) -> None:
    """Same seed, same points; what was left out is said."""
    weights = []
    for seed in (0, 0, 1):
        task, notes = fresh(plain, seed=seed)
        weights.append(Minimal(points=5).repair(task).state_dict()["5.weight"])
        assert f"5 of {len(plain.failing)} failing inputs, drawn by the seed" in notes[0]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_memit_leaves_the_residual_of_its_formula() -> None:
    """(V - W K) - D K = (V - W K)(I - K'(C0 + K K')^-1 K), with more keys than dimensions and lambda > 0."""
    g = torch.Generator().manual_seed(0)
    keys, lacking, usual = (
        torch.randn(*s, generator=g, dtype=torch.float64) for s in ((8, 12), (3, 12), (8, 50))
    )
    ordinary = 4.0 * usual @ usual.T / 50
    left = lacking - write(keys, lacking, ordinary) @ keys
    inner = torch.linalg.solve(ordinary + keys @ keys.T, keys)
    formula = lacking @ (torch.eye(12, dtype=torch.float64) - keys.T @ inner)
    assert torch.allclose(left, formula, atol=1e-10)
    assert float(left.abs().max()) > 0.1


def test_memit_is_exact_where_it_can_be() -> None:
    """Independent keys and lambda 0: nothing is left."""
    g = torch.Generator().manual_seed(0)
    keys, lacking = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((8, 5), (3, 5)))
    assert torch.allclose(
        write(keys, lacking, torch.zeros(8, 8, dtype=torch.float64)) @ keys, lacking, atol=1e-10
    )


def test_memit_with_few_points_and_no_ridge_repairs_them_all(plain: Task) -> None:
    """As many points as the layer has independent inputs; a heavy ridge leaves the network as it was."""
    task, _ = fresh(plain)
    few = task.failing.select(torch.arange(6))
    repaired = Memit(ridge=0.0).repair(dataclasses.replace(task, failing=few))
    assert sit(repaired, few).accuracy == 1
    task, _ = fresh(plain)
    heavy = Memit(ridge=1e12).repair(task)
    assert torch.allclose(
        sit(heavy, plain.passing).logits, sit(plain.module, plain.passing).logits, atol=1e-4
    )


def test_the_nearest_winning_logits_win_by_the_margin_and_are_nearest() -> None:
    """The class leads by exactly the margin where it did not lead before, and no projected-gradient
    step comes nearer.
    """
    g = torch.Generator().manual_seed(1)
    logits, y = torch.randn(40, 6, generator=g, dtype=torch.float64), torch.arange(40) % 6
    target = nearest_winning(logits, y, 0.3)
    own = target.gather(1, y[:, None])
    lead = own - target.scatter(1, y[:, None], -torch.inf)
    assert float(lead.min()) > 0.3 - 1e-12
    first = logits.gather(1, y[:, None]) - logits.scatter(1, y[:, None], -torch.inf)
    won = first.min(1).values >= 0.3
    assert won.any()
    assert torch.equal(target[won], logits[won])
    # KKT: the step is a non-negative combination of the tight constraints' normals (e_y - e_c).
    step = target - logits
    pushed = step.scatter(1, y[:, None], 0.0)
    assert float(pushed.max()) <= 1e-12
    assert torch.allclose(step.gather(1, y[:, None]).squeeze(1), -pushed.sum(1), atol=1e-12)
    assert float((pushed * (lead.clamp(max=10) - 0.3)).abs().max()) < 1e-10


@pytest.mark.parametrize("layer", ["-3", "-2", "-1"])
def test_aprnn_repairs_in_the_ordinary_network_and_switches_no_unit(plain: Task, layer: str) -> None:
    """All points right, and each later unit of each point is on where it was on."""
    task, notes = fresh(plain)
    module = APRNN(layer=layer, points=10).repair(task)
    assert "proved optimal" in notes[1]
    assert "keeps 0 and switches no later unit at them; " in notes[1]
    points = choose_points(plain, 10)
    assert sit(module, points).accuracy == 1
    double, before = exact(module), exact(plain.module)
    x = points.images().double()
    for depth in range({"-3": 2, "-2": 4, "-1": 6}[layer], 5, 2):
        was, now = before[:depth](x).detach(), double[:depth](x).detach()  # type: ignore[index]
        assert float(torch.where(was > 0, now, -now).min()) > -1e-6
    assert module.state_dict().keys() == plain.module.state_dict().keys()


def test_a_free_pattern_proves_nothing_of_later_units(plain: Task) -> None:
    """Their rows are not in the program, so the note is about the linear model alone."""
    task, notes = fresh(plain)
    APRNN(points=10, pattern="free").repair(task)
    assert "keeps 0 in the linear model, whose later units are free to switch; " in notes[1]
    assert not any("switches no later unit" in note for note in notes)


def test_aprnn_is_affine_where_it_says_so(plain: Task) -> None:
    """A small change of the layer's weights and of later biases moves logits and pre-activations
    exactly as the effect says.
    """
    module = exact(plain.module)
    x = plain.failing.images().double()
    found = sites(module, x)
    answers = pattern_effect(module, found[0], found[1:], x, classes=4, entries=10**9)
    delta = (
        1e-7
        * torch.randn(answers.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    )
    apply(module, found[0], found[1:], answers, delta)
    shift = answers.shift(torch.from_numpy(delta))
    assert torch.allclose(module(x), (answers.logits + shift)[:, :4], atol=1e-12)
    assert torch.allclose(module[:2](x), (answers.logits + shift)[:, 4:28], atol=1e-12)  # type: ignore[index]
    assert float(shift[:, :4].abs().max()) > 1e-8


def test_on_the_last_layer_aprnn_and_minimal_have_the_same_optimum(plain: Task) -> None:
    """There is no later unit to freeze: with the same norm, margin and bounds both programs are one."""
    values = []
    for method in (
        Minimal(objective="linf", bound=3.0, keep=0),
        APRNN(layer="last", objective="linf", outputs=False, points=None),
    ):
        task, notes = fresh(plain)
        method.repair(task)
        values.append(optimum(notes))
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_aprnn_refuses_what_is_not_affine_under_a_relu_pattern(cnn: Task) -> None:
    """Max pooling after the layer, by its name; a functional non-linearity by the check of the result."""
    with pytest.raises(Unsupported, match="MaxPool2d runs after layer '0'"):
        APRNN(layer="-3").repair(fresh(cnn)[0])

    class Bent(torch.nn.Module):
        def __init__(self, inside: torch.nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * torch.tanh(self.inside(x))  # type: ignore[no-any-return]

    with pytest.raises(Unsupported, match="not affine under its ReLU pattern"):
        APRNN(layer="-2", points=4).repair(fresh(cnn, module=Bent(copy.deepcopy(cnn.module)))[0])


def test_memit_spares_the_ordinary_keys_or_all_directions_alike() -> None:
    """With ordinary keys C0 is lambda times their mean product, without any lambda times the identity."""
    g = torch.Generator().manual_seed(0)
    keys, lacking, usual = (
        torch.randn(*s, generator=g, dtype=torch.float64) for s in ((8, 12), (3, 12), (8, 50))
    )
    spared = Memit(ridge=3.0)._update(keys, lacking, usual)
    assert torch.allclose(spared, write(keys, lacking, 3 * usual @ usual.T / 50))
    alike = Memit(ridge=3.0)._update(keys, lacking, None)
    assert torch.allclose(alike, write(keys, lacking, 3 * torch.eye(8, dtype=torch.float64)))


def test_memit_says_how_many_points_are_right(plain: Task) -> None:
    """The note counts, on the edited module, the points that hold, and names the layer."""
    task, notes = fresh(plain)
    repaired = Memit(ridge=0.0).repair(task)
    right = int(sit(repaired, task.failing).right.sum())
    assert notes == [f"{right} of {len(task.failing)} points are right after one edit of 5"]
