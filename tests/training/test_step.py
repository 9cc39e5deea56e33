"""The training step, its recording, and the augmentation of bytes.

Without CUDA the graph is played by the work itself: same order, same result.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from airepair.testing import toy
from airepair.training import cuda_graph
from airepair.training import step as stepping
from airepair.training.best_state import CrossEntropy, optimizer_of
from airepair.training.cuda_graph import WARM_UP, Recorded, graph_of, watched
from airepair.training.loop import batches
from airepair.training.step import AUGMENTATIONS, Stepper, crop_flip, none, recordable, shift
from airepair.types import Meter, Recipe, Split

RECIPE = Recipe(lr=0.1, batch_size=32)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


class Tape:
    """Stands for a CUDA graph: counts recordings and replays, and does in a replay what was
    recorded, on the fixed places.
    """

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0

    def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return work().clone()

        return replay


def trained(record: Tape | None, meter: Meter | None = None) -> tuple[nn.Module, list[float]]:
    """The toy network after two epochs of 160 images (a last batch of 20 when batches hold 28), and
    the losses.
    """
    module = copy.deepcopy(toy.subject("cnn").module)
    if meter:
        module.register_forward_pre_hook(meter)
    data, generator, losses = toy.dataset().train, seeded(), []
    with Stepper(
        module.train(),
        optimizer_of(module, RECIPE),
        CrossEntropy(0.1),
        shift,
        generator,
        plain=True,
        record=record,
    ) as step:
        for epoch in range(2):
            losses += [
                float(step(data, index, 0.1 / (epoch + 1))) for index in batches(len(data), 28, generator)
            ]
    return module, losses


def test_replayed_steps_are_the_plain_ones() -> None:
    """Bit for bit, through warm-up, recording, a batch of another length and a changing learning
    rate; one recording serves both epochs.
    """
    tape = Tape()
    one, two = trained(None), trained(tape)
    assert one[1] == two[1]
    assert all(
        torch.equal(a, b)
        for a, b in zip(one[0].state_dict().values(), two[0].state_dict().values(), strict=True)
    )
    assert (tape.recorded, tape.replayed) == (1, 2 * 5 - WARM_UP)


def test_replays_count_their_images() -> None:
    """A replay calls no hook of a module; the meter has every image all the same, once."""

    class Silent(Tape):
        def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
            value = work()  # hooks run here, as when a graph is recorded
            return lambda: value

    for tape in (None, Silent()):
        meter = Meter()
        trained(tape, meter)
        assert meter.backward == 2 * 160


def test_images_are_counted_once_where_recording_fails() -> None:
    """The hooks of the try that could not be recorded ran, and nothing was computed: neither used
    nor taken back.
    """

    class Fails(Tape):
        def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
            self.recorded += 1
            work()
            raise RuntimeError("operation not permitted when stream is capturing")

    module, meter, tape = copy.deepcopy(toy.subject("cnn").module), Meter(), Fails()
    module.register_forward_pre_hook(meter)
    data, generator = toy.dataset().train, seeded()
    with Stepper(
        module.train(), optimizer_of(module, RECIPE), CrossEntropy(), none, generator, plain=True, record=tape
    ) as step:
        for index in batches(len(data), 20, generator):
            step(data, index, 0.1)
    assert (tape.recorded, meter.backward, meter.taken_back) == (1, 160, 0)


def test_work_that_cannot_be_recorded_runs_as_it_stands() -> None:
    """An error while recording is no error of the training; one of the work itself is raised."""

    def refuses(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    work = Recorded(lambda x: x + 1, refuses)
    assert [float(work(torch.tensor(float(i)))) for i in range(6)] == [1, 2, 3, 4, 5, 6]

    def broken(x: Tensor) -> Tensor:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        Recorded(broken, refuses)(torch.zeros(1))


def test_what_a_failed_recording_held_is_free_when_the_work_runs_instead() -> None:
    """A recording fails for lack of memory, say: what it has allocated must not be in the way."""
    held: list[weakref.ref[Tensor]] = []

    def refuses(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        allocated = torch.zeros(3)
        held.append(weakref.ref(allocated))
        raise RuntimeError("CUDA out of memory")

    work = Recorded(lambda x: x + float(bool(held) and held[0]() is not None), refuses)
    assert [float(work(torch.tensor(0.0))) for _ in range(WARM_UP + 2)] == [0.0] * (WARM_UP + 2)
    assert held
    assert work.places == ()


class Card:
    """Stands for torch.cuda with cards whose streams are names: `streams` says which stream is current
    on each card, `events` which card and stream a graph was recorded on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.streams, self.made = 0, {0: "default 0", 1: "default 1"}, 0
        self.events: list[tuple[int, str]] = []
        for name in ("device", "current_stream", "default_stream", "set_stream", "Stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)

    @contextmanager
    def device(self, device: torch.device) -> Any:
        """It is current within the block."""
        before, self.current = self.current, device.index
        yield
        self.current = before

    def current_stream(self, device: torch.device) -> str:
        """The stream that is current there."""
        return self.streams[device.index]

    def default_stream(self, device: torch.device) -> str:
        """The stream that cannot be recorded."""
        return f"default {device.index}"

    def set_stream(self, stream: str) -> None:
        """On the card that is current."""
        self.streams[self.current] = stream

    def Stream(self, device: torch.device) -> str:
        """Another one."""
        self.made += 1
        return f"stream {self.made} of {device.index}"

    @contextmanager
    def graph(self, _: object, stream: str) -> Any:
        """As torch's, an error leaves its stream current."""
        self.events.append((self.current, stream))
        before, self.streams[self.current] = self.streams[self.current], stream
        yield
        self.streams[self.current] = before

    def replay(self) -> None:
        """Of a graph: nothing to do."""


def test_a_graph_is_recorded_on_the_stream_of_its_card_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On another card than the current one as well, and on a stream of its own instead of the default
    one; afterwards everything is current that was.
    """
    card = Card(monkeypatch)
    graph_of(lambda: torch.zeros(1), torch.device("cuda", 1))
    card.streams[1] = "mine"
    graph_of(lambda: torch.zeros(1), torch.device("cuda", 1))
    assert card.events == [(1, "stream 1 of 1"), (1, "mine")]
    assert (card.current, card.streams) == (0, {0: "default 0", 1: "mine"})


def test_a_recording_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself leaves the recorded stream current, and everything after it would run there."""
    card = Card(monkeypatch)

    def fails() -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capturing"):
        graph_of(fails, torch.device("cuda", 0))
    assert card.streams[0] == "default 0"


def test_work_that_waits_for_the_device_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's warnings, in a mode that ends with the call; another warning is passed on."""
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work(*texts: str) -> Callable[[], Tensor]:
        def call() -> Tensor:
            assert modes[-1] == "warn"
            for text in texts:
                warnings.warn(text)
            return torch.ones(1)

        return call

    there, text = torch.device("cuda"), "called a synchronizing CUDA operation (Triggered internally at x)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert watched(work(), there) == (torch.ones(1), False)
        assert watched(work(text), there) == (torch.ones(1), True)
    with pytest.warns(UserWarning, match="another"):
        assert watched(work("another", text), there)[1]
    assert modes[-1] == 0


def test_work_that_waits_for_the_device_is_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the first calls shows it; every call is the work's own."""
    monkeypatch.setattr(cuda_graph, "watched", lambda work, _: (work(), True))
    tape = Tape()
    work = Recorded(lambda x: x + 1, tape)
    assert [float(work(torch.tensor(float(i)))) for i in range(6)] == [1, 2, 3, 4, 5, 6]
    assert tape.recorded == 0


def test_a_module_that_something_listens_to_is_not_recorded() -> None:
    """The harness's meter is known and counted for; any other hook would run once instead of every step."""
    module = toy.architecture("cnn")
    module.register_forward_pre_hook(Meter())
    assert recordable(module)
    module[1].register_forward_hook(lambda *_: None)
    assert not recordable(module)


def test_a_loss_of_a_method_s_own_is_never_recorded() -> None:
    """Only `plain` allows it."""
    module, tape = toy.architecture("cnn"), Tape()
    loss = CrossEntropy()
    with Stepper(
        module, optimizer_of(module, RECIPE), lambda m, x, y: loss(m, x, y), none, seeded(), record=tape
    ) as step:
        for _ in range(WARM_UP + 2):
            step(toy.dataset().train, torch.arange(32), 0.1)
    assert tape.recorded == 0


def test_the_layout_of_weights_and_of_the_optimiser_s_state_goes_there_and_back() -> None:
    """Convolutions and their momenta together, the same numbers, the same parameters; afterwards as
    it was.
    """
    module = toy.architecture("cnn")
    optimizer = optimizer_of(module, RECIPE)
    data = toy.dataset().train
    with Stepper(module, optimizer, CrossEntropy(), none, seeded(), plain=True) as step:
        step(data, torch.arange(32), 0.1)
    weight, before = module[0].weight, copy.deepcopy(module.state_dict())
    weight.data = torch.cat([weight.data] * 2, 1)  # one channel has no layout of its own
    optimizer.state[weight]["momentum_buffer"] = torch.cat(
        [optimizer.state[weight]["momentum_buffer"]] * 2, 1
    )
    stepping._laid_out(module, optimizer, torch.channels_last)
    for tensor in (weight, optimizer.state[weight]["momentum_buffer"]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()
    stepping._laid_out(module, optimizer, torch.contiguous_format)
    assert weight is module[0].weight
    assert weight.is_contiguous()
    assert optimizer.state[weight]["momentum_buffer"].is_contiguous()
    assert torch.equal(weight[:, :1], before["0.weight"])


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_bytes_are_augmented_as_floats_are(name: str) -> None:
    """The loop augments before it converts: the same images come out."""
    x = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8, generator=seeded(1))
    changed = AUGMENTATIONS[name](x, seeded(2))
    assert changed.dtype == torch.uint8
    assert torch.equal(changed.float().div_(255), AUGMENTATIONS[name](x.float().div_(255), seeded(2)))


def test_a_shift_is_a_crop_of_the_padded_image() -> None:
    """Every image is one of the crops of itself with zeros around, all channels alike; the same
    places occur for other images.
    """
    x = torch.rand(64, 3, 6, 9, generator=seeded(3))
    y = shift(x, seeded(4), pad=2)
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    crops = padded.unfold(2, 6, 1).unfold(3, 9, 1)  # N x C x 5 x 5 x 6 x 9
    same = (crops == y[:, :, None, None]).flatten(4).all(4).all(1)
    assert bool(same.flatten(1).any(1).all())
    assert len(same.flatten(1).int().argmax(1).unique()) > 15


def test_half_of_the_images_are_mirrored() -> None:
    """With nothing to shift into view a symmetric frame shows the mirror image."""
    x = torch.zeros(2000, 1, 8, 8)
    x[..., 3, 1] = 1
    moved = crop_flip(x, seeded(5))[..., :].sum((1, 2)).argmax(1)
    assert float((moved > 3).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_step_draws_the_chosen_images() -> None:
    """The module sees exactly these, in [0, 1], with their labels."""
    seen: list[Tensor] = []

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.extend((x, y))
        return module(x).sum()

    module = toy.architecture("mlp")
    data = Split(torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8, generator=seeded(6)), torch.arange(9))
    with Stepper(module, optimizer_of(module, RECIPE), loss, none, seeded()) as step:
        step(data, torch.tensor([7, 2, 2]), 0.0)
    assert torch.equal(seen[0], data.images(torch.tensor([7, 2, 2])))
    assert seen[1].tolist() == [7, 2, 2]
