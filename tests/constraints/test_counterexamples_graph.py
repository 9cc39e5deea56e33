"""The oracle's searches recorded.

Without CUDA the graph is played by the work itself: same order, same points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from airepair.constraints.counterexamples import Hunt, Search, Searches, counterexamples
from airepair.constraints.counterexamples_graph import RecordedHunt
from airepair.constraints.parser import parse
from airepair.testing import toy
from airepair.training.cuda_graph import WARM_UP
from airepair.types import Meter


class Tape:
    """Stands for a CUDA graph: what was recorded is done on the fixed places; no hook hears of it."""

    def __init__(self, module: nn.Module) -> None:
        self.recorded, self.replayed, self.module = 0, 0, module

    def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        work()  # as in a capture, its Python runs once

        def replay() -> Tensor:
            self.replayed += 1
            hooks = dict(self.module._forward_pre_hooks)
            self.module._forward_pre_hooks.clear()
            value = work().clone()
            self.module._forward_pre_hooks.update(hooks)
            return value

        return replay


def searched(
    hunt: Searches, module: nn.Module, rounds: int = 6, each: Callable[[int], None] = lambda _: None
) -> list[dict[str, Tensor]]:
    """The points of `rounds` batches, the last of them shorter."""
    data, generator, found = toy.images(70, 3), torch.Generator().manual_seed(1), []
    for k in range(rounds):
        each(k)
        part = slice(5 * k, 5 * k + (5 if k < rounds - 1 else 3))
        points = {"x": data.x[part], "x2": data.x[part].flip(0)}
        found.append(
            counterexamples(hunt, module, points, {"y": data.y[part], "y2": data.y[part].flip(0)}, generator)
        )
    return found


@pytest.mark.parametrize("text", ["RobustnessG(eps=0.1)", "LipschitzG(eps=0.1)", "SegmentG"])
def test_recorded_searches_find_the_same_points(text: str) -> None:
    """Bit for bit, through warm-up, recording and a batch of another length, with restarts; one
    recording serves all.
    """
    module = toy.subject("cnn").module
    hunt, tape = Hunt(parse(text)[0], Search(3, 0.02, 2)), Tape(module)
    plain, recorded = searched(hunt, module), searched(RecordedHunt(hunt, tape), module)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(plain, recorded, strict=True) for k in a)
    assert (tape.recorded, tape.replayed) == (1, 5 - WARM_UP)


def test_a_replay_sees_the_weights_as_they_are_now() -> None:
    """An optimiser writes in place: the same recording.

    Weights that lie elsewhere: another one. The points are those of a plain search.
    """

    def moves(module: nn.Module) -> Callable[[int], None]:
        def each(k: int) -> None:
            with torch.no_grad():
                for p in module.parameters():
                    p.mul_(0.9)
            if k == 4:
                for p in module.parameters():
                    p.data = p.data.clone()

        return each

    hunt = Hunt(parse("RobustnessG(eps=0.1)")[0], Search(3))
    one, two = (copy.deepcopy(toy.subject("cnn").module) for _ in range(2))
    tape = Tape(two)
    plain = searched(hunt, one, 12, moves(one))
    recorded = searched(RecordedHunt(hunt, tape), two, 12, moves(two))
    assert all(torch.equal(a["z"], b["z"]) for a, b in zip(plain, recorded, strict=True))
    assert tape.recorded == 2


def test_replays_count_their_images() -> None:
    """As many forward and backward as the plain search."""
    counts = []
    for tape in (False, True):
        module, meter = copy.deepcopy(toy.subject("cnn").module), Meter()
        module.register_forward_pre_hook(meter)
        hunt = Hunt(parse("forall z in box(x, 0.1): kl(x, z) < 0.1")[0], Search(3))
        searched(RecordedHunt(hunt, Tape(module)) if tape else hunt, module)
        counts.append((meter.forward, meter.backward))
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


def test_images_are_counted_once_where_recording_fails() -> None:
    """As many as in plain searches, in the batch whose recording fails and in those after it."""

    def fails(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    counts = []
    for record in (None, fails):
        module, meter = copy.deepcopy(toy.subject("cnn").module), Meter()
        module.register_forward_pre_hook(meter)
        searched(RecordedHunt(Hunt(parse("RobustnessG(eps=0.1)")[0], Search(3)), record), module)
        counts.append((meter.forward, meter.backward, meter.taken_back))
    assert counts[0] == counts[1]


def test_a_network_that_something_listens_to_is_not_recorded() -> None:
    """A hook runs in every plain search, and never in a replay."""
    module = copy.deepcopy(toy.subject("cnn").module)
    module[0].register_forward_hook(lambda *_: None)
    tape = Tape(module)
    searched(RecordedHunt(Hunt(parse("RobustnessG(eps=0.1)")[0], Search(2)), tape), module)
    assert (tape.recorded, tape.replayed) == (0, 0)
