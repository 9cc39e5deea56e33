"""DeepCorrect: ranking, correction units, what stays frozen."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import logits_of, sit
from airepair.methods.deepcorrect import method
from airepair.methods.deepcorrect.distortions import levels_of
from airepair.methods.deepcorrect.method import Corrected, DeepCorrect, attach, half_distorted, rank
from airepair.models.layers import runs, weighted
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Split, Task

SMALL = {"distortion": "noise", "epochs": 2, "width": 4, "sample": 40, "batch_size": 64}


class TestDeepCorrect(MethodConformance):
    """It keeps the contract on a convolutional network, and refuses a dense one with a reason."""

    method = DeepCorrect
    options: ClassVar = SMALL


def fade(x: Tensor, _: torch.Generator) -> Tensor:
    """Dims the lower half of each image: filters see it, a seed does not matter."""
    return torch.cat([x[:, :, :4], 0.3 * x[:, :, 4:]], 2)


def convolution(task: Task) -> object:
    return weighted(runs(task.module, task.train.images(slice(2))))[0]


def test_the_rank_of_an_untouched_filter_is_0() -> None:
    """A filter whose map is the same with and without the distortion removes no error; one that
    sees the distortion has another map.
    """
    task = toy.task("cnn")
    with torch.no_grad():
        task.module[0].weight[2] = 0  # type: ignore[index]
    priority = rank(task, convolution(task), task.train, fade, 1)  # type: ignore[arg-type]
    assert priority.shape == (6,)
    assert priority[2] == 0
    assert float(priority.abs().max()) > 0


def test_without_distortion_every_rank_is_0() -> None:
    """The clean maps are the maps."""
    task = toy.task("cnn")
    assert rank(task, convolution(task), task.train, lambda x, _: x, 1).abs().max() == 0  # type: ignore[arg-type]


def test_a_rank_is_the_share_of_errors_removed() -> None:
    """Equal to swapping one filter's map by hand."""
    task = toy.task("cnn")
    run = convolution(task)
    clean = task.module[0](task.train.images())  # type: ignore[index]
    distorted = fade(task.train.images(), torch.Generator())
    found = rank(task, run, task.train, fade, 1)  # type: ignore[arg-type]
    error = 1 - sit(task.module, Split(distorted, task.train.y)).accuracy
    for i in (0, 3, 5):

        def swap(_m: object, _a: object, out: Tensor, i: int = i) -> Tensor:
            out = out.clone()
            out[:, i] = clean[:, i]
            return out

        handle = run.layer.register_forward_hook(swap)  # type: ignore[attr-defined]
        swapped = 1 - sit(task.module, Split(distorted, task.train.y)).accuracy
        handle.remove()
        assert float(found[i]) == pytest.approx((error - swapped) / error, abs=1e-5)


def test_a_unit_starts_as_the_identity_and_can_change_its_filters_only() -> None:
    """Attached, the network answers as before; with another last layer only the chosen channels differ."""
    task = toy.task("cnn")
    expected = logits_of(task.module, task.train.x)
    plain = task.module[0](task.train.images())  # type: ignore[index]
    attach(task.module, [("0", torch.tensor([1, 4]))], 4, seed=0)
    assert torch.allclose(logits_of(task.module, task.train.x), expected, atol=1e-5)
    unit = task.module[0]  # type: ignore[index]
    assert isinstance(unit, Corrected)
    torch.nn.init.constant_(unit.unit[-1].bias, 1.0)
    with torch.no_grad():
        difference = unit.eval()(task.train.images()) - plain
    assert [round(float(d), 4) for d in difference.abs().amax((0, 2, 3))] == [0, 1, 0, 0, 1, 0]


@pytest.fixture(scope="module")
def repaired() -> tuple[Task, nn.Module, nn.Module]:
    """A task whose environment dims images, its module as it was, and the repaired one."""
    task = toy.task("cnn")
    validation = Split(fade(task.validation.images(), torch.Generator()), task.validation.y)
    task = replace(task, environment=fade, validation=validation)
    before = copy.deepcopy(task.module)
    return task, before, DeepCorrect(width=8, beta=1.0, batch_size=32, epochs=40, lr=0.02).repair(task)


def test_only_the_units_are_trained(repaired: tuple[Task, nn.Module, nn.Module]) -> None:
    """The units moved; weights and statistics outside them are what they were, and may be trained
    again afterwards.
    """
    _, before, module = repaired
    state = module.state_dict()
    for name, value in before.state_dict().items():
        assert torch.equal(
            value, state[name.replace("0.", "0.layer.", 1) if name.startswith("0.") else name]
        ), name
    assert float(state["0.unit.13.weight"].abs().sum()) > 0
    assert all(p.requires_grad for p in module.parameters())


def test_it_recovers_accuracy_under_its_environment(repaired: tuple[Task, nn.Module, nn.Module]) -> None:
    """On dimmed test images the corrected network is better than it was."""
    test = toy.dataset().test
    dimmed = Split(fade(test.images(), torch.Generator()), test.y)
    before, after = (sit(m, dimmed).accuracy for m in repaired[1:])
    assert before < 0.7
    assert after > before + 0.1


def test_a_batch_is_half_clean_and_half_distorted_at_every_level() -> None:
    """The first half is untouched; the second is divided among the levels."""
    x = torch.zeros(12, 1, 4, 4)
    levels = [lambda x, _, i=i: x + i for i in (1, 2, 3)]
    assert half_distorted(x, levels, torch.Generator())[:, 0, 0, 0].tolist() == [0] * 6 + [1, 1, 2, 2, 3, 3]


def test_distortions_grow_with_their_level() -> None:
    """The paper's six levels of blur and noise, and a corruption's five severities, each further
    from the clean images.
    """
    x = toy.dataset().test.images()
    for name, levels in (("blur", 6), ("noise", 6), ("contrast", 5)):
        distances = [
            float((level(x, torch.Generator().manual_seed(0)) - x).square().mean())
            for level in levels_of(name)
        ]
        assert len(distances) == levels
        assert distances[0] > 0
        assert distances == sorted(distances)


def test_a_corrected_network_saves_and_loads() -> None:
    """As a whole and as a state dict, with the index of its filters."""
    module = DeepCorrect(**SMALL).repair(toy.task("cnn"))  # type: ignore[arg-type]
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)  # our own bytes of a moment ago
    x = toy.dataset().test.x
    assert torch.equal(logits_of(again, x), logits_of(module, x))
    assert torch.equal(logits_of(copy.deepcopy(module), x), logits_of(module, x))


def test_what_it_needs_is_named() -> None:
    """No distortion, no convolution, no training data, an unknown distortion."""
    task = toy.task("cnn")
    with pytest.raises(Unsupported, match="environment"):
        DeepCorrect().repair(task)
    with pytest.raises(Unsupported, match="Conv2d"):
        DeepCorrect(distortion="blur").repair(toy.task("plain"))
    with pytest.raises(Unsupported, match="training images"):
        DeepCorrect(distortion="blur").repair(
            replace(task, train=task.train.select(torch.zeros(0, dtype=torch.int64)))
        )
    with pytest.raises(UsageError, match="distortion"):
        DeepCorrect(distortion="blurr").repair(task)


@pytest.mark.parametrize("ranking", ["priority", "random"])
def test_the_filters_with_units_are_those_of_the_ranking(
    ranking: Literal["priority", "random"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest priorities, or as many filters that the seed draws whatever their priorities."""
    picked = []
    for priorities in ([0.0, 5, 1, 4, 2, 3], [5.0, 0, 4, 1, 3, 2]):
        task = toy.task("cnn")
        monkeypatch.setattr(method, "rank", lambda *_, p=priorities: torch.tensor(p))
        monkeypatch.setattr(DeepCorrect, "_train", lambda *_: None)
        DeepCorrect(distortion="noise", layers=1, beta=0.34, ranking=ranking).repair(task)
        picked.append(task.module[0].index.tolist())  # type: ignore[index]
    if ranking == "priority":
        assert picked == [[1, 3], [0, 2]]
    else:
        assert picked[0] == picked[1]
        assert len(picked[0]) == 2


def test_failing_inputs_are_a_quarter_more_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment twenty images become twenty-five on their way through the network."""
    sizes: list[int] = []

    def fit(module: nn.Module, *_: object, loss: Callable[..., Tensor], **_other: object) -> None:
        handle = module.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
        loss(module, task.train.images(slice(20)), task.train.y[:20])
        handle.remove()

    monkeypatch.setattr(method, "fit", fit)
    task = replace(toy.task("cnn"), environment=fade)
    DeepCorrect(width=4, layers=1).repair(task)
    assert sizes == [25]
