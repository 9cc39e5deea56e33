"""Modifications, samplers, the error table, and counterexample-guided augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar
from unittest.mock import patch

import pytest
import torch

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import logits_of
from airepair.methods.counterexample import Counterexample, ErrorTable, apart, base_of
from airepair.search.modifications import MODIFICATIONS, blur, modify, move, names_of
from airepair.search.sampling import Cube
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Split

ALL = tuple(MODIFICATIONS)


class TestCounterexample(MethodConformance):
    """It keeps the contract."""

    method = Counterexample
    options: ClassVar = {"samples": 100, "rounds": 2, "epochs": 2, "keep": 15}
    architectures = ("mlp", "plain")


class TestCrossEntropy(MethodConformance):
    """So does the cross-entropy sampler."""

    method = Counterexample
    options: ClassVar = {"samples": 60, "rounds": 2, "epochs": 1, "sampler": "crossentropy", "distance": 0.01}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_neutral_vector_leaves_images_as_they_are() -> None:
    """Half way on the two-sided axes, 0 on noise and blur."""
    x = torch.rand(3, 2, 7, 9, generator=generator())
    neutral = torch.tensor([0.5 if MODIFICATIONS[n].low < 0 else 0.0 for n in ALL]).repeat(3, 1)
    assert torch.allclose(modify(x, neutral, ALL, generator()), x, atol=1e-4)


def test_a_shift_moves_right_and_down_by_whole_pixels() -> None:
    """A quarter of eight pixels is two."""
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3, 3] = 1
    moved = move(x, torch.zeros(1), torch.tensor([0.25]), torch.tensor([0.125]))
    assert moved[0, 0].argmax().item() == 4 * 8 + 5
    assert float(moved[0, 0, 4, 5]) == pytest.approx(1, abs=1e-4)


def test_a_quarter_turn_is_a_rotation_of_the_pixels_and_each_image_has_its_own() -> None:
    """90 degrees clockwise equals rot90, 0 degrees nothing; a non-square image keeps its
    proportions (half a turn flips both axes).
    """
    x = torch.rand(2, 1, 6, 6, generator=generator())
    turned = move(x, torch.tensor([90.0, 0.0]), torch.zeros(2), torch.zeros(2))
    assert torch.allclose(turned[0], x[0].rot90(-1, (1, 2)), atol=1e-4)
    assert torch.allclose(turned[1], x[1], atol=1e-4)
    wide = torch.rand(1, 1, 4, 9, generator=generator())
    assert torch.allclose(
        move(wide, torch.tensor([180.0]), torch.zeros(1), torch.zeros(1)), wide.flip(2, 3), atol=1e-4
    )


def test_a_turn_and_a_shift_together_turn_first() -> None:
    """The shift is in the directions of the picture that comes out."""
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 1, 2] = 1
    both = move(x, torch.tensor([90.0]), torch.tensor([-0.125]), torch.zeros(1))
    one_by_one = move(
        move(x, torch.tensor([90.0]), torch.zeros(1), torch.zeros(1)),
        torch.zeros(1),
        torch.tensor([-0.125]),
        torch.zeros(1),
    )
    assert torch.allclose(both, one_by_one, atol=1e-4)
    assert both[0, 0].argmax().item() == 2 * 8 + 5


def test_blur_keeps_the_mean_and_smooths_each_image_by_its_own_width() -> None:
    """A constant image stays; a wider Gaussian leaves less of a single pixel."""
    x = torch.zeros(3, 1, 9, 9)
    x[:, :, 4, 4] = 1
    peaks = blur(x, torch.tensor([0.0, 0.5, 1.0]))[:, 0, 4, 4]
    assert peaks[0] == pytest.approx(1)
    assert peaks[0] > peaks[1] > peaks[2]
    assert blur(x, torch.tensor([0.0, 0.5, 1.0]))[2].sum() == pytest.approx(1, abs=1e-3)
    assert torch.allclose(blur(torch.full((1, 3, 5, 5), 0.3), torch.ones(1)), torch.full((1, 3, 5, 5), 0.3))


def test_modified_images_stay_in_the_unit_range() -> None:
    """Whatever the vector."""
    x = torch.rand(64, 3, 8, 8, generator=generator())
    out = modify(x, torch.rand(64, len(ALL), generator=generator(1)), ALL, generator(2))
    assert out.shape == x.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_an_unknown_modification_is_refused() -> None:
    """The error names the choices."""
    assert names_of("blur, rotation") == ("blur", "rotation")
    with pytest.raises(UsageError, match="rotation"):
        names_of("rotatoin")
    with pytest.raises(UsageError, match="none"):
        names_of(",")


def test_halton_covers_the_cube_better_than_uniform() -> None:
    """Of 4 x 4 x 4 boxes, 128 Halton points (in two turns) hit more than uniform ones do."""

    def hit(kind: str) -> int:
        cube = Cube(kind, 3, generator(5))  # type: ignore[arg-type]
        points = torch.cat([cube.draw(64), cube.draw(64)])
        assert points.shape == (128, 3)
        return len((points * 4).long().clamp(max=3).unique(dim=0))

    assert hit("halton") >= 60 > hit("uniform")


def test_the_cross_entropy_sampler_moves_to_where_the_score_is_high() -> None:
    """Ten turns towards (0.8, 0.2)."""
    cube, goal = Cube("crossentropy", 2, generator(1)), torch.tensor([0.8, 0.2])
    for _ in range(10):
        points = cube.draw(200)
        cube.learn(points, -((points - goal) ** 2).sum(1))
    assert torch.allclose(cube.mean, goal, atol=0.05)
    assert float(cube.std.max()) < 0.15


def test_the_error_table_finds_the_direction_of_failures() -> None:
    """Failures along a diagonal: the first principal direction is the diagonal, and new vectors lie
    near it.
    """
    t = torch.rand(200, 1, generator=generator())
    vectors = torch.cat([t, 1 - t, torch.full((200, 1), 0.7)], 1)
    table = ErrorTable(vectors, torch.zeros(200), torch.ones(200))
    _, directions, spread = table.components()
    assert torch.allclose(directions[0].abs(), torch.tensor([0.5**0.5, 0.5**0.5, 0.0]), atol=1e-3)
    assert spread[0] > 0.2 > 1e-3 > spread[1]
    assert torch.allclose(spread[0], vectors[:, 0].std() * 2**0.5, rtol=1e-3)
    near = table.near(100, generator(1))
    inside = (near[:, :2] > 0).all(1) & (near[:, :2] < 1).all(1)
    assert torch.allclose(near[inside, 0] + near[inside, 1], torch.ones(int(inside.sum())), atol=1e-3)
    assert torch.allclose(near[:, 2], torch.full((100,), 0.7), atol=1e-3)


def test_vectors_of_a_turn_keep_their_distance() -> None:
    """No two that remain are nearer than the distance."""
    vectors = torch.rand(200, 2, generator=generator())
    kept = vectors[apart(vectors, 0.05)]
    distances = torch.cdist(kept, kept).fill_diagonal_(9)
    assert 10 < len(kept) < 200
    assert float(distances.min()) >= 0.05


def test_frequent_combinations_are_counted_and_drawn() -> None:
    """3 taken for 1 twice, 0 for 2 once: images of label 3 are drawn twice as often as of 0,
    however many there are of each, and no others.
    """
    table = ErrorTable(torch.zeros(3, 2), torch.tensor([3, 0, 3]), torch.tensor([1, 2, 1]))
    assert table.combinations() == [(3, 1, 2), (0, 2, 1)]
    labels = torch.tensor([0] * 500 + [1] * 200 + [3] * 20)
    drawn = labels[table.like(labels, 3000, generator())]
    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == counts[2] == 0
    assert float(counts[3] / counts[0]) == pytest.approx(2.0, rel=0.15)
    assert len(table.like(torch.tensor([1, 2]), 5, generator())) == 5


@pytest.mark.parametrize("distance", [0.0, 0.2])
def test_half_of_the_samples_lie_where_the_table_says(distance: float) -> None:
    """Vectors and labels: a table of failures in one corner on one label.

    Without steering next to none of the samples are there.
    """
    task, corner = (
        toy.task("cnn"),
        torch.full((40, len(ALL)), 0.9) + 0.05 * torch.rand(40, len(ALL), generator=generator()),
    )
    table = ErrorTable(corner, torch.full((40,), 2), torch.full((40,), 3))
    shares = []
    for steer in (True, False):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def spy(images: torch.Tensor, vectors: torch.Tensor, *_: object, seen: list = seen) -> torch.Tensor:  # type: ignore[type-arg]
            seen.append((images, vectors))
            return images

        with patch("airepair.methods.counterexample.modify", spy):
            Counterexample(samples=200, steer=steer, distance=distance)._search(
                task, Cube("uniform", len(ALL), generator(3)), table, ALL, generator(4)
            )
        images, vectors = seen[0]
        assert len(images) == len(vectors)
        there = (vectors > 0.8).all(1)
        known = {
            x.numpy().tobytes(): int(y) for x, y in zip(task.failing.images(), task.failing.y, strict=True)
        }
        known |= {x.numpy().tobytes(): int(y) for x, y in zip(task.train.images(), task.train.y, strict=True)}
        shares.append((int(there.sum()), sum(known[x.numpy().tobytes()] == 2 for x in images[there])))
    assert shares[1][0] <= 2
    assert shares[0][0] == shares[0][1] == 100 if not distance else shares[0][0] == shares[0][1] > 0


def test_images_start_right_and_the_failing_ones_join_when_they_are_learned() -> None:
    """Nothing that is wrong as it is gets modified: before the repair no failing input, afterwards
    those that it has put right.
    """
    task = toy.task("cnn")
    wrong = torch.arange(len(task.train)) < 10
    task = replace(task, train=Split(task.train.x, torch.where(wrong, (task.train.y + 1) % 4, task.train.y)))

    def bases() -> tuple[Split, int]:
        base = base_of(task)
        failing = {x.numpy().tobytes() for x in task.failing.images()}
        return base, sum(x.numpy().tobytes() in failing for x in base.images())

    base, failing = bases()
    assert bool((logits_of(task.module, base.x).argmax(1) == base.y).all())
    right = int((logits_of(task.module, task.train.x).argmax(1) == task.train.y).sum())
    assert 0 < len(base) == right <= len(task.train) - 10
    assert failing == 0
    Counterexample(samples=200, rounds=1, epochs=10).repair(task)
    learned = int((logits_of(task.module, task.failing.x).argmax(1) == task.failing.y).sum())
    base, failing = bases()
    assert bool((logits_of(task.module, base.x).argmax(1) == base.y).all())
    assert failing == learned > 0


def test_nothing_right_to_start_from_is_refused() -> None:
    """Failing inputs alone are all wrong: with no modification each of them would count as a
    counterexample.
    """
    task = toy.task("mlp")
    with pytest.raises(Unsupported, match="gets right as it is"):
        Counterexample().repair(replace(task, train=task.train.select(torch.zeros(0, dtype=torch.int64))))


def test_counterexamples_are_wrong_and_the_control_is_not_chosen() -> None:
    """What the search returns the network gets wrong; the control returns as many, right ones among them."""
    task = toy.task("cnn")
    found = {}
    for sampler in ("halton", "random"):
        method = Counterexample(samples=400, sampler=sampler)  # type: ignore[arg-type]
        cube = Cube("uniform", len(ALL), generator(3))
        table = ErrorTable(
            torch.zeros(0, len(ALL)), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        )
        images, rows = method._search(task, cube, table, ALL, generator(4))
        assert len(images) == len(rows)
        found[sampler] = (len(images), int((logits_of(task.module, images.x).argmax(1) == images.y).sum()))
    assert found["halton"][0] == found["random"][0] > 0
    assert found["halton"][1] == 0
    assert found["random"][1] > 0


def test_retraining_leaves_fewer_counterexamples() -> None:
    """With the same vectors and images, the repaired network fails less often."""
    task = toy.task("cnn")
    names, base = ("noise", "brightness"), task.failing + toy.images(300, 77)
    vectors = torch.rand(len(base), 2, generator=generator(8))
    probe = modify(base.images(), vectors, names, generator(9))
    before = float((logits_of(task.module, probe).argmax(1) == base.y).float().mean())
    module = Counterexample(modifications="noise,brightness", samples=300, rounds=2, epochs=10).repair(
        replace(task, seed=1)
    )
    assert float((logits_of(module, probe).argmax(1) == base.y).float().mean()) > before + 0.03


def test_a_wide_image_turns_without_being_stretched() -> None:
    """A quarter turn of an image twice as wide as high turns its central square pixel by pixel."""
    x = torch.rand(1, 1, 4, 8, generator=generator())
    turned = move(x, torch.tensor([90.0]), torch.zeros(1), torch.zeros(1))
    assert torch.allclose(turned[..., 2:6], x[..., 2:6].rot90(-1, (2, 3)), atol=1e-4)


def test_noise_is_added_as_it_is_drawn() -> None:
    """The drawn normal numbers times the standard deviation, on top of the image."""
    x = torch.full((2, 1, 3, 3), 0.5)
    noisy = modify(x, torch.tensor([[1.0], [0.0]]), ("noise",), generator(4))
    drawn = torch.randn(x.shape, generator=generator(4))
    assert torch.allclose(noisy[0], (0.5 + 0.15 * drawn[0]).clamp(0, 1))
    assert torch.equal(noisy[1], x[1])


def test_vectors_near_the_failures_stay_in_the_cube() -> None:
    """Failures at both ends of an axis: many draws of their Gaussian lie outside and end on its faces."""
    ends = torch.tensor([[0.0, 0.5], [1.0, 0.5]] * 4)
    near = ErrorTable(ends, torch.zeros(8).long(), torch.ones(8).long()).near(200, generator())
    assert float(near[:, 0].min()) == 0
    assert float(near[:, 0].max()) == 1
