"""Submodels: windows, the algebra of Apricot's steps, training together and one by one, the cache,
the meter.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from airepair.evaluation.exam import sit
from airepair.methods.apricot import submodels as training
from airepair.methods.apricot.adjustment import ABSENT, combinations, one_each, regrouped
from airepair.methods.apricot.schedule import LIGHT, fastest, multiplications, quickest
from airepair.methods.apricot.stack import Stack, concatenated, floating, moved, put, stacked
from airepair.methods.apricot.vmapped import Together
from airepair.methods.apricot.windows import windows
from airepair.models import plain
from airepair.testing import toy
from airepair.training.best_state import snapshot
from airepair.types import Recipe, Split, Task


def block(rows: Tensor, strategy: int, rate: float, proportional: bool = False) -> tuple[float, Tensor]:
    """The combination of a single block."""
    own, others = combinations([rows], strategy, rate, proportional)
    return float(own[0]), others[0]


def move(module: nn.Module, own: float, others: Tensor, stack: Stack) -> None:
    """A single combination, in place."""
    put(module, moved(module, torch.tensor([own]), others[None], stack), 0)


def test_windows_are_the_authors() -> None:
    """40,000 images, 20 windows of a quarter: 10,000 each, every 1,500."""
    found = windows(40_000, 20, 0.25)
    assert [(w.start, w.stop) for w in found[:2]] == [(0, 10_000), (1_500, 11_500)]
    assert (found[-1].start, found[-1].stop) == (28_500, 38_500)


def test_windows_of_few_images_stay_inside() -> None:
    """Whatever the size, all windows are equally long, hold two images where there are two, and end
    inside.
    """
    for n in (1, 2, 3, 7, 50):
        found = windows(n, 20, 0.25)
        assert len({w.stop - w.start for w in found}) == 1
        assert all(w.start >= 0 and w.stop <= n for w in found)
        assert found[0].stop - found[0].start >= min(n, 2)


def test_strategies_on_weights_made_by_hand() -> None:
    """w = 0, the right submodel at +1, the wrong one at -1: S1 moves by 2 rate, S2 by rate, S3 by
    rate, all towards the right one.
    """
    rows, submodels = torch.tensor([[1, 0]]), torch.tensor([1.0, -1.0], dtype=torch.double)
    for strategy, expected in ((1, 0.2), (2, 0.1), (3, 0.1)):
        own, others = block(rows, strategy, 0.1)
        assert own * 0.0 + float(others @ submodels) == pytest.approx(expected)


def test_s1_is_additive_s2_contracts_s3_expands() -> None:
    """Of n equal cases S1 leaves w's coefficient at 1, S2 makes it (1 - rate)^n, S3 (1 + rate)^n."""
    rows = torch.tensor([[1, 0]]).repeat(20, 1)
    assert block(rows, 1, 0.005)[0] == pytest.approx(1)
    assert block(rows, 2, 0.005)[0] == pytest.approx(0.995**20)
    assert block(rows, 3, 0.005)[0] == pytest.approx(1.005**20)


@pytest.mark.parametrize("strategy", [2, 3])
def test_a_missing_set_makes_its_difference_zero(strategy: int) -> None:
    """No right submodel under S2, no wrong one under S3: nothing moves."""
    own, others = block(torch.tensor([[0, 0]] if strategy == 2 else [[1, 1]]), strategy, 0.1)
    assert own == 1
    assert not others.any()


def test_s1_with_one_set_missing_is_s2_or_s3() -> None:
    """All submodels right: S1 is S2. All wrong: S1 is S3."""
    for rows, other in ((torch.ones(3, 4), 2), (torch.zeros(3, 4), 3)):
        one, two = block(rows, 1, 0.05), block(rows, other, 0.05)
        assert one[0] == pytest.approx(two[0])
        torch.testing.assert_close(one[1], two[1])


@pytest.mark.parametrize("strategy", [1, 2, 3])
def test_a_block_equals_its_cases_one_after_another(strategy: int) -> None:
    """The affine combination of a block is the sequential loop, for random answers, empty sets among them."""
    generator = torch.Generator().manual_seed(strategy)
    submodels = torch.randn(5, 7, generator=generator, dtype=torch.double)
    w = torch.randn(7, generator=generator, dtype=torch.double)
    rows = (torch.rand(20, 5, generator=generator) < 0.4).to(torch.int8)
    rows[3], rows[4] = 0, 1
    expected = w
    for case in rows:
        right, wrong = submodels[case == 1], submodels[case == 0]
        towards = expected - right.mean(0) if len(right) and strategy != 3 else torch.zeros_like(w)
        away = expected - wrong.mean(0) if len(wrong) and strategy != 2 else torch.zeros_like(w)
        expected = expected - 0.05 * towards + 0.05 * away
    own, others = block(rows, strategy, 0.05)
    torch.testing.assert_close(own * w + others @ submodels, expected)


def test_blocks_of_different_length_do_not_touch_each_other() -> None:
    """All in one call are each alone."""
    generator = torch.Generator().manual_seed(4)
    parts = [torch.randint(-1, 2, (n, 5), generator=generator) for n in (20, 20, 7, 1)]
    own, others = combinations(parts, 1, 0.05)
    for b, part in enumerate(parts):
        factor, weights = block(part, 1, 0.05)
        assert float(own[b]) == pytest.approx(factor)
        assert torch.allclose(others[b], weights)


def test_every_step_keeps_the_coefficients_sum_at_one() -> None:
    """An affine combination: if all submodels equal w, nothing moves, whatever the strategy."""
    rows = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.int8)
    for strategy in (1, 2, 3):
        for proportional in (False, True):
            own, others = block(rows, strategy, 0.02, proportional)
            assert own + float(others.sum()) == pytest.approx(1)


def test_proportional_weights_shares() -> None:
    """Three of four right: the step towards them counts three quarters, the step away one quarter."""
    own, others = block(torch.tensor([[1, 1, 1, 0]]), 1, 0.1, proportional=True)
    assert own == pytest.approx(1 - 0.075 + 0.025)
    torch.testing.assert_close(others, torch.tensor([0.025, 0.025, 0.025, -0.025], dtype=torch.double))


def test_lite_takes_one_of_each() -> None:
    """Per case one right and one wrong submodel take part, each a member of its set; a missing set
    gives none.
    """
    right = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    seen = torch.zeros(4, dtype=torch.bool)
    for seed in range(20):
        chosen = one_each(right, torch.Generator().manual_seed(seed))
        assert ((chosen == 1).sum(1).tolist(), (chosen == 0).sum(1).tolist()) == ([1, 1, 0], [1, 0, 1])
        assert bool((right[chosen == 1]).all())
        assert not bool(right[chosen == 0].any())
        seen |= chosen[0] != ABSENT
    assert bool(seen.all())


def test_random_sets_keep_how_many_are_right() -> None:
    """The control deals out as many right answers a case as there were; swapped exchanges them."""
    right = torch.rand(30, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    random = regrouped(right, "random", torch.Generator().manual_seed(2))
    assert torch.equal(random.sum(1), right.sum(1))
    assert not torch.equal(random, right)
    assert torch.equal(regrouped(right, "swapped", torch.Generator()), ~right)


def test_batch_norm_statistics_move_and_counters_stay() -> None:
    """The running statistics go half way to the submodel's like the weights; the integer counter is left."""
    module, other = toy.architecture("mlp"), toy.architecture("mlp")
    other.get_buffer("2.running_mean").fill_(4.0)
    other.get_buffer("2.num_batches_tracked").fill_(9)
    move(module, 0.5, torch.tensor([0.5]), stacked([snapshot(other)], floating(other)))
    assert torch.equal(module.get_buffer("2.running_mean"), torch.full((24,), 2.0))
    assert int(module.get_buffer("2.num_batches_tracked")) == 0


def test_a_running_variance_never_falls_below_zero() -> None:
    """S1 and S3 leave the submodels' convex hull: a variance stops at 0, so that logits stay finite."""
    module = nn.BatchNorm1d(2)
    stack = stacked([{**snapshot(module), "running_var": torch.full((2,), 9.0)}], floating(module))
    move(module, 1.5, torch.tensor([-0.5]), stack)
    assert torch.equal(module.running_var, torch.zeros(2))


def test_tied_weights_move_once() -> None:
    """Two names for one tensor: it moves half way, not three quarters."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    nn.init.zeros_(module[0].weight)
    assert floating(module) == ("0.weight",)
    move(module, 0.5, torch.tensor([0.5]), {"0.weight": torch.ones(1, 2, 2)})
    assert torch.equal(module[0].weight.detach(), torch.full((2, 2), 0.5))


def plan(task: Task, way: training.Way, epochs: int = 3, batch: int = 16, count: int = 5) -> training.Plan:
    """A small plan on the toy task."""
    recipe = replace(task.recipe, epochs=epochs, batch_size=batch)
    return training.Plan(task.checkpoints["early"], windows(len(task.train), count, 0.25), recipe, way)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("batch", [16, 13])
def test_together_equals_one_by_one(kind: toy.Architecture, batch: int) -> None:
    """Trained in one batched call, submodels have the weights and statistics of training one by
    one, up to rounding (a dropped last image too).
    """
    task = toy.task(kind)
    one = training.train(task, plan(task, "one by one", batch=batch), None)
    two = training.train(task, plan(task, "together", batch=batch), None)
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-4, rtol=1e-4)


def test_submodels_differ_and_leave_the_start_alone() -> None:
    """Each sees another window: no two are equal; the early checkpoint is not touched."""
    task = toy.task("mlp")
    before = snapshot(task.checkpoints["early"])
    stack = training.train(task, plan(task, "together"), None)
    assert not torch.equal(stack["1.weight"][0], stack["1.weight"][1])
    assert all(torch.equal(v, before[k]) for k, v in task.checkpoints["early"].state_dict().items())


@pytest.mark.parametrize("way", ["one by one", "together", "streams"])
def test_images_are_counted_once_a_submodel(way: training.Way) -> None:
    """5 submodels x 3 epochs x 40 images; with batches of 13 the last image of an epoch is dropped.

    The hook on the start adds nothing.
    """
    for batch, each in ((16, 40), (13, 39)):
        task = toy.task("mlp")
        task.checkpoints["early"].register_forward_pre_hook(task.meter)
        chosen = plan(task, way, batch=batch)
        training.train(task, chosen, None)
        assert task.meter.backward == 5 * 3 * each


def test_augmented_submodels_train_together() -> None:
    """Augmentation is one call for all submodels and gives another result than none."""
    task = toy.task("cnn")
    chosen = plan(task, "together")
    shifted = replace(chosen, recipe=replace(chosen.recipe, augment="shift"))
    one, two = training.train(task, chosen, None), training.train(task, shifted, None)
    assert not torch.equal(one["0.weight"], two["0.weight"])
    assert bool(torch.isfinite(two["0.weight"]).all())


def test_dropout_leaves_the_global_generator_and_repeats() -> None:
    """Dropout draws from the global generator: it is seeded inside and put back, so that a seed
    gives one result.
    """
    task = toy.task("mlp")
    start = nn.Sequential(*copy.deepcopy(list(task.checkpoints["early"])), nn.Dropout(0.2))
    for way in ("one by one", "together"):
        chosen = replace(plan(task, way), start=start)  # type: ignore[arg-type]
        state = torch.random.get_rng_state()
        one = training.train(task, chosen, None)
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(7)
        two = training.train(task, chosen, None)
        assert all(torch.equal(one[k], two[k]) for k in one)


def test_the_cache_gives_the_same_submodels_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run trains nothing, has the same tensors bit for bit, and counts the same images."""
    task = toy.task("mlp")
    first = training.train(task, plan(task, "together"), tmp_path)
    counted = task.meter.backward
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("trained again"))
    again = toy.task("mlp")
    second = training.train(again, plan(again, "together"), tmp_path)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert again.meter.backward == counted > 0


def test_what_draws_after_the_submodels_draws_the_same_if_they_are_from_the_cache(tmp_path: Path) -> None:
    """The trial of the ways draws for dropout on the CPU: a hit leaves the generator as a miss does."""
    task = toy.task("mlp")
    start = nn.Sequential(*copy.deepcopy(list(task.checkpoints["early"])), nn.Dropout(0.2))
    chosen, left = replace(plan(task, "auto"), start=start), []
    with torch.random.fork_rng():
        for _ in range(2):
            torch.manual_seed(1)
            training.train(task, chosen, tmp_path)
            left.append(torch.random.get_rng_state())
    assert torch.equal(*left)
    way = quickest(start, task.train, chosen.windows[0], chosen.recipe)
    training.train(task, replace(chosen, way=way), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # known by the way in which they were trained


@pytest.mark.parametrize("change", ["seed", "epochs", "train", "start", "way", "code"])
def test_the_cache_knows_what_the_weights_depend_on(change: str, tmp_path: Path) -> None:
    """Another seed, recipe, training label, start or code of the network's class is another entry."""
    task = toy.task("mlp")
    training.train(task, plan(task, "together"), tmp_path)
    other, chosen = task, plan(task, "together")
    if change == "seed":
        other = replace(task, seed=9)
    if change == "epochs":
        chosen = plan(task, "together", epochs=4)
    if change == "way":
        chosen = plan(task, "one by one")
    if change == "train":
        other = replace(task, train=replace(task.train, y=task.train.y.roll(1)))
    if change == "start":
        chosen = replace(chosen, start=task.module)
    if change == "code":
        start = copy.deepcopy(chosen.start)
        start.__class__ = type(type(start).__name__, (type(start),), {})  # of this file, by the same name
        assert repr(start) == repr(chosen.start)
        chosen = replace(chosen, start=start)
    training.train(other, chosen, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path) -> None:
    """Half a file is not read as submodels."""
    task = toy.task("mlp")
    first = training.train(task, plan(task, "together"), tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    second = training.train(task, plan(task, "together"), tmp_path)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert file.stat().st_size > 100


def test_a_cache_that_is_no_folder_does_not_stop_the_repair(tmp_path: Path) -> None:
    """Where the folder cannot be made the submodels are trained."""
    (tmp_path / "file").write_text("")
    task = toy.task("mlp")
    assert training.train(task, plan(task, "together"), tmp_path / "file" / "submodels")


def test_without_memory_fewer_train_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of at most two fit here: the result is the same, the lost work is not counted, and a
    note says so.
    """
    task, notes, sizes = toy.task("mlp"), [], []
    task = replace(task, note=notes.append)
    expected = training.train(task, plan(task, "together"), None)
    counted = task.meter.backward

    class Small(Together):
        def __init__(
            self, start: nn.Module, train: Split, recipe: Recipe, generators: Sequence[torch.Generator]
        ) -> None:
            sizes.append(len(generators))
            if len(generators) > 2:
                raise torch.cuda.OutOfMemoryError("no memory")
            super().__init__(start, train, recipe, generators)

    monkeypatch.setattr(training, "Together", Small)
    task.meter.rewind((task.meter.forward, 0))
    found = training.train(task, plan(task, "together"), None)
    assert sizes == [5, 2, 2, 1]
    assert task.meter.backward == counted
    assert any("do not fit into memory; now 2 at once" in n for n in notes)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_without_any_memory_they_train_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one fits in a batched call: the ordinary loop.

    Another error is not taken for a lack of memory.
    """
    task = toy.task("mlp")

    def nothing(*_: object) -> object:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
        )

    monkeypatch.setattr(training, "Together", nothing)
    expected = training.train(task, plan(task, "one by one"), None)
    found = training.train(task, plan(task, "together"), None)
    assert all(torch.equal(expected[k], found[k]) for k in found)

    def broken(*_: object) -> object:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(training, "Together", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        training.train(task, plan(task, "together"), None)


class DataDependent(nn.Module):
    """Control flow that depends on the data, for which no batching rule exists."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the sign of the mean decides."""
        y: Tensor = self.layer(x.flatten(1))
        return y if bool(y.mean() > 0) else -y


def test_a_model_without_batching_rule_trains_one_by_one() -> None:
    """The batched call fails, and the plain loop runs."""
    task = toy.task("plain")
    assert quickest(DataDependent(), task.train, slice(0, 40), Recipe(batch_size=16)) == "one by one"
    notes: list[str] = []
    found = training.train(
        replace(task, note=notes.append), replace(plan(task, "auto"), start=DataDependent()), None
    )
    assert found["layer.weight"].shape == (5, 4, 64)
    assert notes == ["submodels: 5 trained one by one"]


def test_on_a_cpu_the_arithmetic_of_a_batch_decides_and_no_clock() -> None:
    """Multiplications by hand; small networks together, the MNIST CNN one by one; the start keeps
    its hooks and statistics.
    """
    linear = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 4))
    before = snapshot(linear)
    assert multiplications(linear, torch.zeros(5, 1, 8, 8)) == 5 * (3 * 36 * 9 + 108 * 4)
    assert all(torch.equal(v, before[k]) for k, v in linear.state_dict().items())
    assert not any(m._forward_hooks for m in linear.modules())
    task = toy.task("cnn")
    assert quickest(task.module, task.train, slice(0, 40), Recipe(batch_size=16)) == "together"
    grey = Split(torch.zeros(64, 1, 28, 28), torch.zeros(64, dtype=torch.long))
    assert multiplications(plain.cnn(10, (1, 28, 28)), grey.x) > LIGHT
    assert quickest(plain.cnn(10, (1, 28, 28)), grey, slice(0, 4), Recipe(batch_size=4)) == "together"
    assert quickest(plain.cnn(10, (1, 28, 28)), grey, slice(0, 64), Recipe(batch_size=64)) == "one by one"


@pytest.mark.parametrize("batch", [16, 13])
def test_streams_give_the_submodels_of_one_by_one(batch: int) -> None:
    """Bit for bit, augmented, by a step schedule: each draws what it would draw alone.

    (Without CUDA there is one stream.)
    """
    task = toy.task("cnn")
    made = plan(task, "streams", batch=batch, epochs=4)
    chosen = replace(made, recipe=replace(made.recipe, augment="shift", schedule="step"))
    counted = task.meter.backward
    one = training.train(task, chosen, None)
    assert task.meter.backward - counted == 5 * 4 * (39 if batch == 13 else 40)
    two = training.train(task, replace(chosen, way="one by one"), None)
    assert all(torch.equal(one[k], two[k]) for k in two)


@pytest.mark.parametrize("start", ["early", "own"])
def test_submodels_share_a_basin_so_that_their_mean_is_a_model(start: str) -> None:
    """From the early checkpoint and its stated substitute the mean of the weights is about as good
    as the submodels; from fresh weights it is not.
    """
    task = toy.task("cnn")
    module = copy.deepcopy(task.module)

    def accuracies(stack: Stack) -> tuple[float, float]:
        each = []
        for k in range(len(stack["0.weight"])):
            put(module, stack, k)
            each.append(sit(module, task.validation).accuracy)
        put(module, {name: rows.mean(0, keepdim=True) for name, rows in stack.items()}, 0)
        return sum(each) / len(each), sit(module, task.validation).accuracy

    chosen = plan(task, "together", epochs=6)
    each, mean = accuracies(
        training.train(task, chosen if start == "early" else replace(chosen, start=task.module), None)
    )
    assert mean > each - 0.05
    fresh = []
    for k in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(k)
            fresh.append(
                training.train(
                    task,
                    replace(chosen, start=toy.architecture("cnn"), windows=chosen.windows[k : k + 1]),
                    None,
                )
            )
    each, mean = accuracies(concatenated(fresh))
    assert mean < each - 0.15


def test_put_gives_back_a_submodel() -> None:
    """A submodel put into a module is there bit for bit."""
    task = toy.task("mlp")
    stack = training.train(task, plan(task, "one by one"), None)
    put(task.module, stack, 3)
    assert all(torch.equal(task.module.state_dict()[k], rows[3]) for k, rows in stack.items())


def test_each_way_is_measured_at_least_twice() -> None:
    """A first run may be slow by chance, so a spent time budget does not end the measurement after it."""
    calls: list[str] = []
    found = fastest([lambda: calls.append("a"), lambda: calls.append("b")], torch.device("cpu"), budget=0.0)
    assert calls == ["a", "b", "a", "b"]
    assert all(0 <= seconds < float("inf") for seconds in found)


def test_a_layer_of_one_output_has_its_multiplications_counted() -> None:
    """Its weight has a single row."""
    assert multiplications(nn.Linear(7, 1), torch.zeros(5, 7)) == 5 * 7


def test_submodels_trained_together_carry_no_gradients() -> None:
    """The stack is data: arithmetic on it records no graph, and it can be filed."""
    task = toy.task("mlp")
    stack = training.train(task, plan(task, "together", epochs=1), None)
    assert not any(rows.requires_grad for rows in stack.values())


def test_a_stack_that_no_cache_holds_takes_the_fused_step() -> None:
    """Over a million floats of all submodels together, and not below."""
    data = toy.images(8, 1)
    for width, fused in ((4, False), (8192, True)):
        start = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        group = Together(start, data, Recipe(batch_size=4), [torch.Generator()] * 2)
        assert bool(group.stepper.optimizer.param_groups[0]["fused"]) == fused
