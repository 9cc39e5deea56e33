"""Weighted regularisation: what each form changes, and what it refuses."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import logits_of, sit
from airepair.methods.deeprepair.batch_norm import TargetHalf, moments
from airepair.methods.deeprepair.cutmix import cut_and_paste, cutmix
from airepair.methods.deeprepair.losses import confused_loss, distance_loss
from airepair.methods.deeprepair.method import DeepRepair
from airepair.methods.deeprepair.targets import biased_three, confused_pair
from airepair.methods.finetune import Finetune
from airepair.models import build
from airepair.testing import toy
from airepair.training.best_state import fit
from airepair.types import Recipe, Split

OPTIONS = {"lr": 0.05, "epoch": 4, "batch_size": 32}


def last_state(method: DeepRepair | Finetune) -> dict[str, torch.Tensor]:
    """The state after the last epoch (selection off: a validation split that any state serves
    equally well).
    """
    task = toy.task("mlp")
    states = []

    def progress(phase: str, step: int, steps: int, loss: float) -> None:
        states.append({k: v.clone() for k, v in task.module.state_dict().items()})

    object.__setattr__(task, "progress", progress)
    method.repair(task)
    return states[-1]


def test_the_weights_of_w_bn_are_plain_fine_tunings_and_the_last_statistics_are_not() -> None:
    """The published form: the target half never reaches the loss; only running statistics differ."""
    ours, plain = last_state(DeepRepair(**OPTIONS)), last_state(Finetune(lr=0.05, epochs=4, batch_size=32))  # type: ignore[arg-type]
    for key, value in plain.items():
        if "running" in key:
            assert not torch.equal(ours[key], value)
        else:
            torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)


def test_with_ratio_one_w_bn_is_plain_fine_tuning_altogether() -> None:
    """The target half then has no weight in the statistics either."""
    ours, plain = (
        last_state(DeepRepair(**OPTIONS, ratio=1.0)),
        last_state(Finetune(lr=0.05, epochs=4, batch_size=32)),
    )  # type: ignore[arg-type]
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)


def test_both_halves_reach_the_loss_in_the_patch_s_form() -> None:
    """AIREPAIR's variant changes the weights, too."""
    published, patched = (
        last_state(DeepRepair(**OPTIONS)),
        last_state(DeepRepair(**OPTIONS, both_halves=True)),
    )  # type: ignore[arg-type]
    assert not torch.allclose(published["1.weight"], patched["1.weight"], atol=1e-4)


def test_unweighted_leaves_nothing_of_any_form() -> None:
    """Of the patch's form plain fine-tuning is left; of w-os, which is its factor alone, nothing."""
    off = DeepRepair.ablations["unweighted"]
    plain, patched = (
        last_state(DeepRepair(**{**OPTIONS, "both_halves": both, **off}))  # type: ignore[arg-type]
        for both in (False, True)
    )
    assert all(torch.equal(patched[key], value) for key, value in plain.items())
    with pytest.raises(Unsupported, match="as from noop"):
        DeepRepair(variant="w-os", **off).repair(toy.task("cnn"))  # type: ignore[arg-type]


def test_the_hooks_come_off() -> None:
    """The repaired module has the interface it came with."""
    module = DeepRepair(**OPTIONS).repair(toy.task("cnn"))  # type: ignore[arg-type]
    assert not any(m._forward_hooks for m in module.modules())
    assert logits_of(module, torch.rand(5, 1, 8, 8)).shape == (5, 4)


def test_w_loss_on_hand_made_logits() -> None:
    """(1 - t) CE + t L; one direction absent leaves the other's mean; both absent plain cross-entropy."""
    logits, y = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([0, 0, 2])
    each = nn.functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(confused_loss(logits, y, (0, 1), 0.3), 0.7 * each.mean() + 0.3 * each[0])
    torch.testing.assert_close(confused_loss(logits, y, (1, 2), 0.3), each.mean())


def test_w_loss_of_a_bias_is_the_mean_over_both_pairs() -> None:
    """(first, second) and (first, third); a pair that the batch does not confuse leaves the other."""
    logits, y = (
        torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [4.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        torch.tensor([0, 0, 2, 1]),
    )
    each = nn.functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(
        confused_loss(logits, y, (0, 1, 2), 0.3), 0.7 * each.mean() + 0.3 * (each[0] + each[2]) / 2
    )
    torch.testing.assert_close(
        confused_loss(logits[:2], y[:2], (0, 1, 2), 0.3), 0.7 * each[:2].mean() + 0.3 * each[0]
    )


def test_w_dbr_rewards_the_distance_of_the_two_classes() -> None:
    """lam CE - (1 - lam) || mean softmax of a - mean softmax of b ||."""
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), torch.tensor([0, 1, 0])
    p = logits.softmax(1)
    expected = 0.4 * nn.functional.cross_entropy(logits, y) - 0.6 * (p[[0, 2]].mean(0) - p[1]).norm()
    torch.testing.assert_close(distance_loss(logits, y, (0, 1), 0.4), expected)


def test_the_bias_form_makes_two_distances_equal() -> None:
    """lam CE + (1 - lam) |d(a, b) - d(a, c)|; a batch without one of the classes has a distance of
    0, as in the published code.
    """
    logits, y = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([0, 1, 2])
    p, entropy = logits.softmax(1), nn.functional.cross_entropy(logits, y)
    expected = 0.4 * entropy + 0.6 * ((p[0] - p[1]).norm() - (p[0] - p[2]).norm()).abs()
    torch.testing.assert_close(distance_loss(logits, y, (0, 1, 2), 0.4), expected)
    torch.testing.assert_close(
        distance_loss(logits[:2], y[:2], (0, 1, 2), 0.4), 0.4 * nn.functional.cross_entropy(logits[:2], y[:2])
    )


def test_w_os_moves_mass_out_of_the_pair_and_cannot_exchange_its_classes() -> None:
    """It is log(eta) on two biases: within the pair every order stays."""
    task = toy.task("mlp")
    before = logits_of(task.module, task.validation.x)
    after = logits_of(DeepRepair(variant="w-os", first=2, second=3, eta=0.5).repair(task), task.validation.x)
    torch.testing.assert_close(
        after - before,
        torch.tensor([0, 0, math.log(0.5), math.log(0.5)]).expand_as(before),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("variant", ["w-aug", "w-loss", "w-dbr"])
def test_every_training_form_repairs_something(variant: str) -> None:
    """Of the failing inputs, all wrong before, at least a third are right after."""
    task = toy.task("cnn")
    repaired = DeepRepair(variant=variant, lam=0.5, lr=0.02, epoch=15, batch_size=32).repair(task)  # type: ignore[arg-type]
    assert sit(repaired, task.failing).accuracy > 1 / 3


def test_w_bn_without_batch_norm_names_the_forms_that_would_run() -> None:
    """A result with a reason, not a crash."""
    with pytest.raises(Unsupported, match="w-aug"):
        DeepRepair().repair(toy.task("plain"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"variant": "w-dbr", "lam": 0.0}, "no cross-entropy"),
        ({"extra": 64}, "accepted: the same"),
        ({"first": 9}, "accepted: 0..3"),
        ({"first": 1, "second": 1}, "accepted: different classes"),
        ({"first": 1, "second": 2, "third": 2}, "accepted: different classes"),
        ({"replace": False}, "plain fine-tuning"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, object], why: str) -> None:
    """One line with the value and what would be accepted."""
    with pytest.raises(UsageError, match=why):
        DeepRepair(**options).repair(toy.task("mlp"))  # type: ignore[arg-type]


def test_cutmix_replaces_the_area_that_it_reports() -> None:
    """The share of the image that is left is the share of pixels left."""
    x, other = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    image, kept = cut_and_paste(x, other, 0.5, torch.Generator().manual_seed(3))
    assert float(1 - image.mean()) == pytest.approx(kept)


def test_cutmix_is_one_forward_pass_with_both_labels_by_area() -> None:
    """With probability 1 the loss lies between those of both labels, weighted by the area that was
    kept; one forward pass counts.
    """
    task = toy.task("mlp")
    task.module.eval().register_forward_pre_hook(task.meter)
    x, y = task.train.images(slice(0, 32)), task.train.y[:32]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def criterion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append((logits, labels))
        return nn.functional.cross_entropy(logits, labels)

    value = cutmix(criterion, 1.0, 1.0, torch.Generator().manual_seed(1))(task.module, x, y)
    one, two = (float(nn.functional.cross_entropy(*s).detach()) for s in seen)
    assert seen[0][0] is seen[1][0]
    assert torch.equal(seen[1][1].sort().values, y.sort().values)
    assert min(one, two) < float(value.detach()) < max(one, two)
    assert task.meter.backward == 32


def test_cutmix_takes_part_only_when_asked_for() -> None:
    """Probability 0 is off, and 1 gives other weights."""
    results = [
        last_state(DeepRepair(**OPTIONS, variant="w-loss", cutmix_prob=p))["1.weight"]
        for p in (0.0, 0.0, 1.0)
    ]  # type: ignore[arg-type]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_only_the_last_three_batch_norms_take_the_target_half_s_statistics() -> None:
    """Of five layers the first two keep plain training's statistics, the last three follow ratio *
    normal + (1 - ratio) * target.
    """
    layers = [nn.Flatten()]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for inputs in (64, 8, 8, 8, 8):
            layers += [nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU()]
        plain = nn.Sequential(*layers, nn.Linear(8, 4))
    data, recipe = toy.images(64, 1), Recipe(lr=0.05, batch_size=32, epochs=1)
    ours, targets = copy.deepcopy(plain), data.select((data.y >= 2).nonzero().flatten())
    half = TargetHalf(ours, targets, 0.5, False, lambda x, _: x, torch.Generator().manual_seed(2))
    loss = half.after(lambda m, x, y: nn.functional.cross_entropy(m(x), y))
    fit(ours, data, None, recipe, torch.Generator().manual_seed(1), loss=loss)
    fit(plain, data, None, recipe, torch.Generator().manual_seed(1))
    differs = [
        not torch.allclose(ours[i].running_mean, plain[i].running_mean, atol=1e-6) for i in (2, 5, 8, 11, 14)
    ]
    assert differs == [False, False, True, True, True]


def test_the_statistics_after_a_step_are_the_published_mixture() -> None:
    """One step on hand-made halves: running mean .9 * 0 + .1 * (ratio * normal + (1 - ratio) *
    target), the variance likewise.
    """
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 4))
    normal = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    target = Split(torch.full((4, 1, 2, 2), 0.9), torch.tensor([2, 3, 2, 3]))
    half = TargetHalf(module, target, 0.7, False, lambda x, _: x, torch.Generator().manual_seed(2))
    module.train()
    half.after(lambda m, x, y: nn.functional.cross_entropy(m(x), y))(
        module, normal, torch.arange(16) % 4
    ).backward()
    mean, _, unbiased = moments(normal.flatten(1))
    layer = module[1]
    torch.testing.assert_close(layer.running_mean, 0.1 * (0.7 * mean + 0.3 * 0.9))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * 0.7 * unbiased)
    assert int(layer.num_batches_tracked) == 1


def test_the_target_half_runs_without_autograd() -> None:
    """It is counted as forward only: as many images as the normal half, none of them backward."""
    task = toy.task("mlp")
    task.module.register_forward_pre_hook(task.meter)
    data = task.labelled
    DeepRepair(**OPTIONS).repair(task)  # type: ignore[arg-type]
    examined = 5 * len(task.validation) + len(task.failing)
    assert task.meter.backward == 4 * len(data)
    assert task.meter.forward == 4 * len(data) + examined


def test_the_pair_is_the_most_confused_one_unless_given() -> None:
    """Classes 2 and 3 are planted; a class that is given is kept, in its place; ties go to the lower ids."""
    task = toy.task("mlp")
    assert confused_pair(task, None, None) == (2, 3)
    assert confused_pair(task, 1, 0) == (1, 0)
    assert confused_pair(task, 3, None) == (3, 2)
    assert confused_pair(task, None, 3) == (2, 3)
    stuck = copy.deepcopy(task.module)
    with torch.no_grad():
        stuck.get_parameter("4.weight").zero_()
        stuck.get_parameter("4.bias").copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    images = toy.images(8, 7)
    wrong = images.select((images.y != 1).nonzero().flatten())
    assert confused_pair(replace(task, module=stuck, failing=wrong), None, None) == (0, 1)


def test_a_bias_is_found_as_the_largest_difference_of_two_confusions() -> None:
    """Rates of the repair split, computed here by hand; what is given is kept; nothing to tell
    apart is a reason.
    """
    task = toy.task("mlp")
    repair = task.failing + task.passing
    guess = sit(task.module, repair).predictions

    def conf(a: int, b: int) -> float:
        return sum(float((guess[repair.y == i] == j).double().mean()) for i, j in ((a, b), (b, a))) / 2

    triples = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if len({a, b, c}) == 3]
    first, second, third = biased_three(task, (None, None, None))
    largest = max(conf(a, b) - conf(a, c) for a, b, c in triples)
    assert conf(first, second) - conf(first, third) == pytest.approx(largest)
    assert {first, second} == {2, 3}
    assert biased_three(task, (0, 1, 3)) == (0, 1, 3)
    assert biased_three(task, (3, None, 2))[::2] == (3, 2)
    with pytest.raises(Unsupported, match="no bias"):
        biased_three(
            replace(task, failing=task.failing.select(torch.zeros(0, dtype=torch.long))), (None, None, None)
        )


@pytest.mark.parametrize("variant", ["w-bn", "w-aug", "w-loss", "w-dbr", "w-os"])
def test_every_form_takes_a_bias_found_in_the_data(variant: str) -> None:
    """All three classes are its targets, named in the record; the module stays one of four classes
    and is another than for a confusion.
    """
    notes: list[str] = []
    options = {"variant": variant, "lam": 0.5, **OPTIONS}
    task = replace(toy.task("cnn"), note=notes.append)
    biased = DeepRepair(**options, target="bias").repair(task)  # type: ignore[arg-type]
    confused = DeepRepair(**options).repair(toy.task("cnn"))  # type: ignore[arg-type]
    assert notes[0].count(",") == 2
    assert not torch.allclose(logits_of(biased, task.validation.x), logits_of(confused, task.validation.x))


@pytest.mark.parametrize("variant", ["w-bn", "w-aug", "w-loss", "w-dbr", "w-os"])
@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("resnet18w4", (3, 32, 32)), ("resnet20w4", (3, 32, 32)), ("cnn", (1, 28, 28))],
)
def test_every_form_runs_on_every_architecture_with_batch_norm(
    architecture: str, shape: tuple[int, int, int], variant: str
) -> None:
    """Residual networks and the paper's CNN, for a confusion and for a bias: the module keeps its
    tensors' names and shapes, all finite.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(architecture, "any", 4, shape)
        data = [Split(torch.rand(24, *shape), torch.arange(24) % 4) for _ in range(4)]
    task = replace(
        toy.task("cnn"), module=net, train=data[0], failing=data[1], passing=data[2], validation=data[3]
    )
    for given in ({"first": 0, "second": 1}, {"first": 0, "second": 1, "third": 2}):
        own = replace(task, module=copy.deepcopy(net))
        method = DeepRepair(variant=variant, lam=0.5, epoch=1, batch_size=12, lr=0.01, **given)  # type: ignore[arg-type]
        repaired = method.repair(own)
        before, after = net.state_dict(), repaired.state_dict()
        assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
        assert all(bool(torch.isfinite(v.float()).all()) for v in after.values())


def test_w_aug_draws_the_target_classes_more_often() -> None:
    """With weight .05 the classes of the pair fill most of every batch."""
    task, seen = toy.task("mlp"), []
    task.module.register_forward_pre_hook(lambda m, args: seen.append(args[0]) if m.training else None)
    DeepRepair(variant="w-aug", weight=0.05, first=0, second=1, epoch=2, batch_size=32, lr=0.01).repair(task)
    horizontal = torch.cat(seen)[:, 0, :, 1:7].mean(2)
    share = float(((horizontal[:, 1:3].mean(1) - horizontal[:, 3:5].mean(1)).abs() > 0.1).float().mean())
    base = task.labelled.images()[:, 0, :, 1:7].mean(2)
    before = float(((base[:, 1:3].mean(1) - base[:, 3:5].mean(1)).abs() > 0.1).float().mean())
    assert share > before + 0.2


def test_w_os_leaves_alone_a_model_whose_last_linear_layer_is_not_its_logits() -> None:
    """A layer of the right size in the wrong place is refused, not changed."""
    task = toy.task("mlp")
    odd = nn.Sequential(*copy.deepcopy(list(task.module)), nn.Conv1d(1, 1, 1), nn.Softsign())
    odd = nn.Sequential(odd[0], *list(odd)[1:5], nn.Unflatten(1, (1, 4)), odd[5], nn.Flatten(), odd[6])
    with pytest.raises(Unsupported, match="not this model's logits"):
        DeepRepair(variant="w-os", first=2, second=3).repair(replace(task, module=odd.eval()))


def test_the_target_half_keeps_the_layers_scale_and_shift() -> None:
    """Normalised by the normal half's statistics, then times the weight, plus the bias."""
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([2.0, 0.5, 3.0, 1.5]))
        module[1].bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.4]))
    normal = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    target = Split(torch.full((4, 1, 2, 2), 0.9), torch.full((4,), 2))
    half = TargetHalf(module, target, 0.7, True, lambda x, _: x, torch.Generator().manual_seed(2))
    module.train()
    loss = half.after(lambda m, x, y: 0 * m(x).sum())(module, normal, torch.arange(16) % 4)
    mean, variance, _ = moments(normal.flatten(1))
    logits = (0.9 - mean) / (variance + 1e-5).sqrt() * module[1].weight + module[1].bias
    torch.testing.assert_close(2 * loss, nn.functional.cross_entropy(logits[None], torch.tensor([2])))


def test_a_layer_that_averages_all_batches_mixes_each_with_its_share() -> None:
    """Momentum none: after two steps the running mean is that of both mixtures."""
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 4))
    target = Split(torch.full((4, 1, 2, 2), 0.9), torch.tensor([2, 3, 2, 3]))
    half = TargetHalf(module, target, 0.7, False, lambda x, _: x, torch.Generator().manual_seed(2))
    module.train()
    loss, mixtures = half.after(lambda m, x, y: nn.functional.cross_entropy(m(x), y)), []
    for seed in (1, 2):
        x = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
        loss(module, x, torch.arange(16) % 4)
        mixtures.append(0.7 * moments(x.flatten(1))[0] + 0.3 * 0.9)
    torch.testing.assert_close(module[1].running_mean, torch.stack(mixtures).mean(0))


def test_w_os_checks_itself_on_64_validation_images() -> None:
    """Not on all of them: with a given pair that is all that the repair looks at."""
    task = toy.task("mlp")
    seen: list[int] = []
    task.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    DeepRepair(variant="w-os", first=2, second=3).repair(task)
    assert len(task.validation) > 64
    assert set(seen) == {64}  # before and after


def test_the_missing_class_of_a_bias_is_another_than_those_given() -> None:
    """Class 2 is taken for 3 often, for 0 and 1 at times: beside 2 and 3 stands 0, not 2 again."""

    def answered(labels: list[int], guesses: list[int]) -> Split:
        return Split(torch.eye(4)[guesses].view(-1, 1, 2, 2), torch.tensor(labels))

    task = replace(
        toy.task("mlp"),
        module=nn.Flatten(),
        failing=answered([2, 2, 2, 2, 2], [3, 3, 3, 0, 1]),
        passing=answered([0, 1, 2, 3], [0, 1, 2, 3]),
    )
    assert biased_three(task, (2, None, 3)) == (2, 0, 3)
