"""dl2: what the constraint does to training, which data it sees, and the published traps."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from airepair.constraints.counterexamples import Hunt, Search
from airepair.constraints.counterexamples_graph import RecordedHunt
from airepair.constraints.inputs import Inputs
from airepair.constraints.parser import parse
from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import evaluating, sit
from airepair.methods import build
from airepair.methods.dl2 import DL2, Objective, Part, membership, start_afresh
from airepair.testing import toy
from airepair.training.best_state import fit
from airepair.types import Recipe, Split, Task

SHORT = {"lr": 1e-3, "epochs": 2, "batch_size": 64}


def inputs(
    images: torch.Tensor, *, pairing="close", radius=1.0, size=8, pairwise=True, labels=None
) -> Inputs:
    return Inputs(images, labels, size, pairwise, pairing, radius, torch.Generator().manual_seed(0))


def part(task: Task, text: str, size: int = 64) -> Part:
    (constraint,) = parse(text)
    g = torch.Generator().manual_seed(0)
    hunt = RecordedHunt(Hunt(constraint, Search(), membership(task)))
    return Part(0.6, Inputs(task.unlabelled, None, size, False, "close", 1.0, g), hunt, g)


def test_the_constraints_loss_is_the_weighted_mean_of_the_groups_s_times_one_minus_s():
    """Over the unlabelled inputs, with evaluation statistics."""
    task = toy.task()
    found = part(task, "Groups()", size=120).loss(task.module)
    with evaluating(task.module):
        s = task.module(task.unlabelled).softmax(1) @ membership(task)
    assert torch.allclose(found, 0.6 * (s * (1 - s)).sum(1).mean(), atol=1e-6)


def test_the_constraints_forward_leaves_batch_norm_alone_and_restores_train_mode():
    """And its gradient reaches the weights."""
    task = toy.task()
    task.module.train()
    before = copy.deepcopy(task.module)
    part(task, "Groups()").loss(task.module).backward()
    assert task.module.training
    assert all(torch.equal(a, b) for a, b in zip(task.module.buffers(), before.buffers(), strict=True))
    assert all(float(p.grad.abs().sum()) > 0 for p in task.module[-1].parameters())


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_minimising_the_constraint_alone_satisfies_it(kind):
    """Without cross-entropy, some steps of Adam on the group constraint push every group towards 0 or 1."""
    task = toy.task(kind)
    asked = part(task, "Groups()", size=120)
    first = float(asked.loss(task.module).detach())
    optimizer = torch.optim.Adam(task.module.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        asked.loss(task.module).backward()
        optimizer.step()
    assert float(asked.loss(task.module).detach()) < first / 2


def _repaired(task: Task, **options: object) -> nn.Module:
    return build("dl2", SHORT | options).repair(task)


def _without_validation(task: Task) -> Task:
    """Validation labels that the module gets all wrong at the start, so that a trained state is returned."""
    y = (sit(task.module, task.validation).predictions + 1) % 4
    return dataclasses.replace(task, validation=Split(task.validation.x, y))


def _differ(a: nn.Module, b: nn.Module) -> bool:
    return any(
        not torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_weight_changes_the_outcome_and_weight_zero_is_cross_entropy_alone():
    """Delay longer than training equals weight 0: the constraint's own draws come from a stream of
    their own.
    """
    outcomes = [
        _repaired(_without_validation(toy.task()), **o)
        for o in ({"weight": 0.0}, {"delay": 9}, {"weight": 5.0})
    ]
    assert not _differ(outcomes[0], outcomes[1])
    assert _differ(outcomes[0], outcomes[2])


def test_delay_counts_whole_epochs():
    """The first `delay` epochs are cross-entropy alone."""
    task = toy.task()
    objective = Objective([part(task, "Groups()")], delay=2)
    x, y = task.train.images(), task.train.y
    plain = nn.functional.cross_entropy(task.module(x), y)
    for done in (0, 1):
        objective.done = done
        assert torch.equal(objective(task.module, x, y), plain)
    objective.done = 2
    assert objective(task.module, x, y) > plain


def test_labels_of_passing_inputs_are_never_read():
    """Another labelling of passing inputs gives the same weights."""
    task = toy.task()
    other = dataclasses.replace(toy.task(), passing=Split(task.passing.x, (task.passing.y + 1) % 4))
    assert not _differ(_repaired(task), _repaired(other))


def test_a_constraint_with_labels_is_asked_of_labelled_inputs_and_others_of_unlabelled_ones():
    """`over=auto`; asking for labels of unlabelled inputs is refused with a reason."""
    task = toy.task()
    method = DL2(constraint="Groups() and RobustnessG(eps=0.05)")
    free, bound = (method._part(task, c, 1) for c in parse(method.constraint))
    assert free.inputs.images is task.unlabelled
    assert free.inputs.labels is None
    assert len(bound.inputs.images) == len(task.labelled)
    with pytest.raises(Unsupported, match="labels"):
        _repaired(task, constraint="RobustnessG()", over="unlabelled")


@pytest.mark.parametrize(
    "text",
    [
        "RobustnessT",
        "RobustnessG(eps=0.05)",
        "LipschitzT",
        "LipschitzG",
        "SegmentG",
        "Groups and RobustnessT",
    ],
)
def test_every_constraint_trains_to_finite_weights_the_same_for_a_seed(text):
    """And differently for another."""
    options = {"constraint": text, "lr": 1e-2, "oracle_steps": 2, "disjunction": "min"}
    first, again, other = (_repaired(_without_validation(toy.task(seed=s)), **options) for s in (0, 0, 1))
    assert not _differ(first, again)
    assert _differ(first, other)
    assert all(bool(torch.isfinite(v).all()) for v in first.state_dict().values())


def test_weights_come_from_the_option_or_from_each_constraint():
    """.6 for the groups, the data set's own for RobustnessT."""
    task = toy.task()
    constraints = parse("Groups and RobustnessT", robustness=task.robustness)
    assert [DL2()._part(task, c, 1).weight for c in constraints] == [0.6, 1.0]
    assert [DL2(weight=0.25)._part(task, c, 1).weight for c in constraints] == [0.25, 0.25]


def test_close_pairs_are_close_and_never_an_image_with_itself():
    """Every drawn pair, and the share that the record shows."""
    x = toy.dataset().train.images()
    drawn = inputs(x, radius=1.6, size=50)
    points, _ = drawn.draw()
    distances = (points["x"] - points["x2"]).flatten(1).norm(dim=1)
    assert float(distances.max()) < 1.6
    assert float(distances.min()) > 0
    assert 0 < drawn.share < 1


def test_no_close_pair_is_a_reason_not_a_void_constraint():
    """It names the radius and the nearest two."""
    with pytest.raises(Unsupported, match=r"nearer than 0\.01 .*nearest two"):
        inputs(toy.dataset().train.images(), radius=0.01).draw()


def test_the_published_pairing_shifts_by_one_and_overlaps():
    """x2 of each pair but the last is x of the next; half of the batch is never asked."""
    images = torch.arange(40.0).reshape(40, 1, 1, 1)
    points, labels = inputs(images, pairing="shift", size=10, labels=torch.arange(40)).draw()
    assert len(points["x"]) == 5
    assert torch.equal(points["x2"][:-1], points["x"][1:])
    assert torch.equal(labels["y"].float(), points["x"].flatten())
    assert torch.equal(labels["y2"].float(), points["x2"].flatten())


def test_random_pairs_are_of_different_images():
    """Also of two images only."""
    points, _ = inputs(torch.arange(2.0).reshape(2, 1, 1, 1), pairing="random", size=10).draw()
    assert bool((points["x"] != points["x2"]).all())


def test_from_scratch_forgets_the_given_weights_without_touching_the_global_generator():
    """Two different modules of one architecture become the same; the global random state stays."""
    first, second = toy.subject(seed=0).module, toy.subject(seed=1).module
    state = torch.get_rng_state()
    start_afresh(first, torch.Generator().manual_seed(3))
    start_afresh(second, torch.Generator().manual_seed(3))
    assert not _differ(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_from_scratch_refuses_parameters_that_have_no_rule():
    """It names the layer."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

    with pytest.raises(Unsupported, match="1 has parameters"):
        start_afresh(nn.Sequential(nn.Linear(2, 2), Own()), torch.Generator())


def test_a_bad_expression_is_refused_when_the_method_is_built():
    """Before anything is trained, with the column."""
    with pytest.raises(UsageError, match="column 9"):
        build("dl2", {"constraint": "dist(x, q) < 1"})


def test_classes_are_checked_against_the_task():
    """CSimilarity needs CIFAR-10's classes; a class id must exist."""
    with pytest.raises(UsageError, match="CIFAR-10"):
        _repaired(toy.task(), constraint="CSimilarityT")
    with pytest.raises(UsageError, match="is not a class"):
        _repaired(toy.task(), constraint="p(x, 4) < 1")
    _repaired(toy.task(), constraint="p(x, {north, south}) < 1", epochs=1)


def test_groups_are_refused_where_there_are_none():
    """With a reason."""
    with pytest.raises(Unsupported, match="class groups"):
        _repaired(dataclasses.replace(toy.task(), groups=()))


def test_singletons_are_refused_where_no_constraint_is_about_groups():
    """The ablation would be the method itself; beside a constraint of groups it runs."""
    off = DL2.ablations["singleton_groups"]
    with pytest.raises(Unsupported, match="grouping=singletons changes nothing"):
        _repaired(toy.task(), constraint="RobustnessT(eps1=2, eps2=0.9)", epochs=1, **off)
    both = "Groups() and RobustnessT(eps1=2, eps2=0.9)"
    _repaired(toy.task(), constraint=both, epochs=1, **off)


def test_nothing_failing_changes_nothing():
    """The module comes back as it was, from_scratch or not."""
    task = toy.task()
    before = copy.deepcopy(task.module)
    empty = dataclasses.replace(task, failing=task.failing.select(torch.zeros(0, dtype=torch.long)))
    assert not _differ(_repaired(empty, from_scratch=True), before)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_dl2_lowers_the_violation_against_the_same_training_without_the_constraint(kind):
    """Mean group violation on unseen images after twenty epochs, the last state of each (selection
    would compare epochs).
    """

    def violation(weight: float) -> float:
        task = toy.task(kind)
        asked = dataclasses.replace(part(task, "Groups()"), weight=weight)
        recipe = Recipe(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=20, schedule="constant")
        fit(task.module, task.labelled, None, recipe, task.generator(), loss=Objective([asked], 0))
        s = sit(task.module, toy.dataset().test).logits.softmax(1) @ membership(task)
        return float((s * (1 - s)).sum(1).mean())

    assert violation(0.6) < violation(0.0)
