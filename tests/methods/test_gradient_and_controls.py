"""irepair, lookup and random: the masked gradient, and controls that behave as controls must."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import evaluating, sit
from airepair.host.arithmetic.exact import RMSprop
from airepair.methods.irepair import IRepair, balanced, gradients, mask
from airepair.methods.lookup import Lookup, Table, fingerprint
from airepair.methods.random_change import RandomChange
from airepair.testing import toy
from airepair.types import Split, Task


@pytest.fixture(scope="module")
def mlp() -> Task:
    """A fully connected network with batch norm."""
    return toy.task("mlp")


def fresh(task: Task, **other: object) -> Task:
    """The task with a module of its own."""
    return dataclasses.replace(task, module=copy.deepcopy(task.module), **other)  # type: ignore[arg-type]


def test_gamma_zero_is_plain_fine_tuning_on_the_same_inputs(mlp: Task) -> None:
    """Every weight moves exactly as RMSprop on the cross-entropy of both sets moves it, and as
    torch's RMSprop does but for the last bits of its root, which depend on the processor.
    """
    method = IRepair(gamma=0.0, iterations=3, points=None, general=40)
    repaired = method.repair(fresh(mlp))
    data = balanced(mlp.passing, 40, mlp.generator(2)) + mlp.failing
    for kind, same in ((RMSprop, torch.equal), (torch.optim.RMSprop, partial(torch.allclose, atol=1e-7))):
        module = copy.deepcopy(mlp.module)
        optimizer = kind(module.parameters(), lr=method.lr)
        with evaluating(module):
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(data.images()), data.y).backward()
                optimizer.step()
        assert not torch.equal(module[1].weight, mlp.module[1].weight)
        for a, b in zip(repaired.parameters(), module.parameters(), strict=True):
            assert same(a, b)


def test_gamma_to_infinity_moves_no_weight_with_influence_on_the_right_inputs(mlp: Task) -> None:
    """With gamma 1e30 only weights without any influence on them may move; the others are bit-equal."""
    task = fresh(mlp)
    general = balanced(mlp.passing, 40, mlp.generator(2))
    with evaluating(mlp.module):
        influence = gradients(mlp.module(general.images()).abs().sum(1).mean(), list(mlp.module.parameters()))
    repaired = IRepair(gamma=1e30, iterations=5, points=None).repair(task)
    moved = 0
    for before, after, g in zip(mlp.module.parameters(), repaired.parameters(), influence, strict=True):
        # The influence of a weight may rise from zero only if another weight moved, so the first
        # state decides.
        assert torch.equal(before[g != 0], after[g != 0])
        moved += int((before != after).sum())
    assert moved < 0.05 * sum(p.numel() for p in mlp.module.parameters())


def test_a_larger_gamma_leaves_fewer_weights() -> None:
    """The mask shrinks with gamma and holds a weight whose influence on the right inputs is zero."""
    specific, general = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0.0, 0.5, 5.0, 1.0])
    assert mask(specific, general, 0.0).tolist() == [True, True, True, True]
    assert mask(specific, general, 1.0).tolist() == [True, True, False, False]
    assert mask(specific, general, 1e9).tolist() == [True, False, False, False]


def test_an_influence_has_no_sign() -> None:
    """Falling and rising losses weigh alike: (|s| + 1e-8) / (gamma |g| + 1e-8) >= 1, for every sign
    of both gradients.
    """
    specific, general = (
        torch.tensor([0.3, -0.3, 0.3, -0.3, 0.1, -0.1, 0.1, -0.1]),
        torch.tensor([0.2, 0.2, -0.2, -0.2] * 2),
    )
    assert mask(specific, general, 1.0).tolist() == [True] * 4 + [False] * 4
    assert mask(torch.tensor([-1e-9, 0.0]), torch.tensor([0.0, -1e-7]), 1.0).tolist() == [True, False]


def test_the_influence_is_that_of_the_points_that_are_still_wrong(mlp: Task) -> None:
    """One iteration on points of which half are right already: what moves is what the wrong ones
    alone allow.
    """
    points = mlp.failing.select(torch.arange(6)) + mlp.passing.select(torch.arange(30))
    repaired = IRepair(iterations=1, points=None, gamma=0.5).repair(fresh(mlp, failing=points))
    general = balanced(mlp.passing, 40, mlp.generator(2))
    parameters = list(mlp.module.parameters())
    with evaluating(mlp.module):
        of_right = gradients(mlp.module(general.images()).abs().sum(1).mean(), parameters)
        masks = []
        for chosen in (points.select(torch.arange(6)), points):
            loss = nn.functional.cross_entropy(mlp.module(chosen.images()), chosen.y)
            masks.append(
                torch.cat(
                    [
                        mask(s, g, 0.5).flatten()
                        for s, g in zip(gradients(loss, parameters), of_right, strict=True)
                    ]
                )
            )
        total = general + points
        slopes = gradients(nn.functional.cross_entropy(mlp.module(total.images()), total.y), parameters)
    moved = torch.cat([(a != b).flatten() for a, b in zip(repaired.parameters(), parameters, strict=True)])
    steep = torch.cat([s.flatten().abs() > 1e-6 for s in slopes])
    assert torch.equal(moved[steep], masks[0][steep])
    assert not torch.equal(masks[0][steep], masks[1][steep]), (
        "the points that are right make a difference here"
    )


def test_irepair_repairs_its_points_with_batch_norm_untouched(mlp: Task) -> None:
    """Until all are right, and the statistics stay bit-equal; the note says after how many iterations."""
    notes: list[str] = []
    task = fresh(mlp, note=notes.append)
    repaired = IRepair(lr=3e-3, points=8).repair(task)
    assert "all 8 points right after" in notes[-1]
    assert torch.equal(repaired[2].running_mean, mlp.module[2].running_mean)  # type: ignore[index]


def test_the_general_set_is_balanced() -> None:
    """As many of each class as there are, in turn."""
    y = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)
    chosen = balanced(Split(torch.zeros(103, 1, 1, 1), y), 13, torch.Generator().manual_seed(0))
    assert chosen.y.bincount().tolist() == [5, 3, 5]


def test_irepair_needs_right_inputs(mlp: Task) -> None:
    """Without them there is no influence to weigh."""
    with pytest.raises(Unsupported, match="no passing input"):
        IRepair().repair(fresh(mlp, passing=mlp.passing.select(torch.arange(0))))


def test_lookup_repairs_all_and_learns_nothing(mlp: Task) -> None:
    """Repair rate 1; every other answer is bit-equal to the subject's, in any batch size."""
    table = Lookup().repair(fresh(mlp))
    assert sit(table, mlp.failing).accuracy == 1
    assert sit(table, mlp.failing, batch_size=7).accuracy == 1
    test = toy.dataset().test
    assert torch.equal(sit(table, test).logits, sit(mlp.module, test).logits)


def test_lookup_answers_the_exact_image_only(mlp: Task) -> None:
    """One bit of one pixel, and the network answers again."""
    table = Lookup().repair(fresh(mlp))
    x = mlp.failing.images(slice(0, 1)).clone()
    x[0, 0, 3, 3] = torch.nextafter(x[0, 0, 3, 3], torch.tensor(2.0))
    with torch.no_grad():
        assert torch.equal(table(x), mlp.module(x))


def test_a_table_lives_in_its_state_dict_and_takes_bytes_for_what_they_are(mlp: Task) -> None:
    """Another table of the same size loads it; images given as bytes are the same images."""
    u8 = Split((mlp.failing.images() * 255).round().to(torch.uint8), mlp.failing.y)
    table = Table(copy.deepcopy(mlp.module), u8.images(), u8.y)
    other = Table(toy.architecture("mlp").eval(), torch.rand(len(u8), 1, 8, 8), u8.y)
    other.load_state_dict(table.state_dict())
    assert sit(other, u8).accuracy == 1


def test_fingerprints_tell_images_apart() -> None:
    """No two of 20,000 images that differ in one pixel share one; -0 is 0."""
    x = torch.zeros(20_000, 1, 4, 4)
    x[:, 0, 2, 1] = torch.arange(20_000) / 20_000
    assert len(fingerprint(x).unique()) == 20_000
    assert torch.equal(fingerprint(-x[:1]), fingerprint(x[:1]))


def test_random_changes_each_tensor_by_its_share_of_its_norm(mlp: Task) -> None:
    """The distance is `norm` times the tensor's own norm; buffers stay; another seed goes elsewhere."""
    before = mlp.module.state_dict()
    after = RandomChange(norm=0.25).repair(fresh(mlp)).state_dict()
    for name, _ in mlp.module.named_parameters():
        assert float((after[name] - before[name]).norm()) == pytest.approx(
            0.25 * float(before[name].norm()), rel=1e-4
        )
    assert torch.equal(after["2.running_var"], before["2.running_var"])
    other = RandomChange(norm=0.25).repair(fresh(mlp, seed=9)).state_dict()
    assert not torch.equal(after["1.weight"], other["1.weight"])


def test_random_changes_the_named_layers_alone(mlp: Task) -> None:
    """`last` is the last layer with parameters; a wrong name lists the layers."""
    before = mlp.module.state_dict()
    after = RandomChange(layers=("last",)).repair(fresh(mlp)).state_dict()
    assert [k for k in before if not torch.equal(before[k], after[k])] == ["4.weight", "4.bias"]
    with pytest.raises(UsageError, match=r"random.layers='9'.*accepted: last, 1, 2, 4"):
        RandomChange(layers=("9",)).repair(fresh(mlp))


def test_a_random_change_of_norm_zero_changes_nothing(mlp: Task) -> None:
    """And a large one does harm, which is not hidden by a selection."""
    after = RandomChange(norm=0.0).repair(fresh(mlp))
    assert torch.equal(sit(after, mlp.passing).logits, sit(mlp.module, mlp.passing).logits)
    assert sit(RandomChange(norm=20.0).repair(fresh(mlp)), mlp.passing).accuracy < 0.9
