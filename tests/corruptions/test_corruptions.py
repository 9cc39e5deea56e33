"""Corruptions: range, seeds, severities, shapes, and what single ones must do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from airepair.corruptions import CORRUPTIONS, Corruption, corrupted, parse
from airepair.corruptions.filters import grey
from airepair.corruptions.weather import plasma
from airepair.errors import UsageError
from airepair.types import Split

NAMES = list(CORRUPTIONS.builtin)
RANDOM = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "glass_blur",
    "motion_blur",
    "fog",
    "snow",
    "elastic_transform",
}


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Smooth pictures with edges, in [0, 1]."""
    c, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    x = plasma(n * c, max(h, w), 1.5, generator)[:, :h, :w].reshape(n, c, h, w).clone()
    x[:, :, h // 4 : h // 2, w // 4 : w // 2] = 1
    x[:, :, -h // 4 :, : w // 4] = 0
    return torch.stack([image.roll((i % h, 3 * i % w), (1, 2)) for i, image in enumerate(x)])


def seeded(seed: int) -> torch.Generator:
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=["8x8", "28x28", "3x32x32"])
@pytest.mark.parametrize("name", NAMES)
def test_images_stay_images(name: str, shape: tuple[int, int, int]) -> None:
    """At every severity: the same shape, finite, in [0, 1], not the image that came in, which
    itself stays as it is.
    """
    x = pictures(24, shape)
    before = x.clone()
    for severity in (1, 3, 5):
        y = Corruption(name, severity)(x, seeded(1))
        assert y.shape == x.shape
        assert y.dtype == torch.float32
        assert bool(((y >= 0) & (y <= 1)).all())
        # Enlarging 8 pixels by 6 % gives 8 pixels.
        assert torch.allclose(y, x, atol=1e-6) == ((name, severity, shape) == ("zoom_blur", 1, (1, 8, 8)))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "elastic_transform"])
def test_more_severe_is_further_away(name: str) -> None:
    """Severity 5 moves 3 x 32 x 32 pictures further from themselves than severity 1 (elastic's
    trade warp for waves).
    """
    x = pictures(24, (3, 32, 32))
    far = [float((Corruption(name, s)(x, seeded(2)) - x).square().mean()) for s in (1, 5)]
    assert far[1] > far[0] * 1.2


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_one_result(name: str) -> None:
    """The same seed repeats bit for bit; another seed gives another result where the corruption is
    random; global generators stay.
    """
    x, state = pictures(4, (1, 28, 28)), torch.random.get_rng_state()
    one, two, other = (Corruption(name, 4)(x, seeded(s)) for s in (5, 5, 6))
    assert torch.equal(one, two)
    assert torch.equal(one, other) == (name not in RANDOM | {"shear", "rotate"})
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_name_with_a_severity_parses() -> None:
    """`fog3` is fog at severity 3, and prints as it was written."""
    assert parse("fog3") == Corruption("fog", 3)
    for name in NAMES:
        assert str(parse(f"{name}5")) == f"{name}5"


@pytest.mark.parametrize("text", ["fog", "fog0", "fog6", "fog33", "fog-1", "fgo3", "", "3", "fog 3"])
def test_what_is_no_corruption_is_refused_with_what_is_accepted(text: str) -> None:
    """An unknown name or severity: one line that shows the value and what is accepted."""
    with pytest.raises(UsageError, match="accepted"):
        parse(text)


def test_names_need_no_torch() -> None:
    """The grid and the reports list corruptions without importing torch."""
    code = "import sys, airepair.corruptions as c; c.parse('snow2'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("batch", [1024, 7])
def test_a_split_keeps_labels_type_and_length(batch: int) -> None:
    """uint8 stays uint8 and labels stay; a fixed seed gives a fixed split."""
    split = Split((pictures(20, (3, 32, 32)) * 255).to(torch.uint8), torch.arange(20))
    one, two = (corrupted(split, parse("gaussian_noise5"), 9, batch) for _ in range(2))
    assert one.x.dtype == torch.uint8
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.y, split.y)
    assert not torch.equal(one.x, split.x)
    assert len(corrupted(split.select(torch.zeros(0, dtype=torch.long)), parse("fog1"), 0)) == 0


def test_noise_has_the_published_strength() -> None:
    """Gaussian noise .10 and impulse noise 7 % at severity 5, on a grey image far from the ends."""
    x = torch.full((8, 3, 32, 32), 0.5)
    noise = Corruption("gaussian_noise", 5)(x, seeded(0)) - x
    assert float(noise.std()) == pytest.approx(0.10, rel=0.03)
    hit = Corruption("impulse_noise", 5)(x, seeded(0))
    assert float((hit != 0.5).float().mean()) == pytest.approx(0.07, abs=0.005)
    assert float((hit == 1).float().mean()) == pytest.approx(0.035, abs=0.004)
    shot = Corruption("shot_noise", 5)(x, seeded(0))
    assert float(shot.var()) == pytest.approx(0.5 / 50, rel=0.05)


def test_filters_keep_a_flat_image_flat() -> None:
    """A blur has weight one: nothing happens to an image of one value, up to the edge."""
    x = torch.full((3, 1, 28, 28), 76 / 255)
    for name in (
        "gaussian_blur",
        "defocus_blur",
        "motion_blur",
        "zoom_blur",
        "glass_blur",
        "contrast",
        "pixelate",
        "elastic_transform",
    ):
        torch.testing.assert_close(Corruption(name, 5)(x, seeded(0)), x)


def test_plasma_fills_the_unit_interval_and_a_larger_decay_is_smoother() -> None:
    """Height maps from 0 to 1; with decay 3 neighbours are closer than with 1.75."""
    rough, smooth = plasma(16, 32, 1.75, seeded(3)), plasma(16, 32, 3.0, seeded(3))
    for field in (rough, smooth):
        assert torch.equal(field.amin((1, 2)), torch.zeros(16))
        assert torch.equal(field.amax((1, 2)), torch.ones(16))
    assert float(smooth.diff(dim=2).abs().mean()) < 0.8 * float(rough.diff(dim=2).abs().mean())


def test_brightness_keeps_the_hue() -> None:
    """Channels keep their ratios where nothing is clipped; black becomes grey."""
    x = torch.tensor([0.4, 0.2, 0.1])[None, :, None, None].expand(1, 3, 4, 4).clone()
    y = Corruption("brightness", 5)(x, seeded(0))
    torch.testing.assert_close(y[0, :, 0, 0], torch.tensor([0.7, 0.35, 0.175]))
    assert torch.equal(
        Corruption("brightness", 5)(torch.zeros(1, 3, 2, 2), seeded(0)), torch.full((1, 3, 2, 2), 0.3)
    )


def test_eight_bits_hold_the_corrupted_image_rounded_down() -> None:
    """Of 255 steps, as CIFAR-10-C's files; float images keep what a step cannot hold."""
    x = (pictures(4, (3, 8, 8)) * 255).to(torch.uint8)
    split = Split(x, torch.arange(4))
    exact = corrupted(replace(split, x=split.images()), parse("contrast1"), 0).x
    found = corrupted(split, parse("contrast1"), 0).x
    assert exact.dtype == torch.float32
    assert torch.equal(found, (exact * 255).floor().to(torch.uint8))
    assert int(found.max()) > 100


def test_unless_told_otherwise_1024_images_draw_together() -> None:
    """The batch decides which numbers an image draws, so another size is another set of images."""
    split = Split(torch.full((1040, 1, 4, 4), 0.5), torch.zeros(1040, dtype=torch.long))
    found = corrupted(split, parse("snow1"), 0).x
    generator = seeded(0)
    parts = [Corruption("snow", 1)(part, generator) for part in (split.x[:1024], split.x[1024:])]
    assert torch.equal(found, torch.cat(parts))
    assert not torch.equal(found, corrupted(split, parse("snow1"), 0, 1025).x)


def test_the_grey_of_other_than_three_channels_is_their_mean() -> None:
    """One channel is its own grey, two lie half way; three are weighed."""
    x = torch.tensor([0.25, 0.75, 0.5, 0.125]).reshape(1, 4, 1, 1)
    for channels, expected in ((1, 0.25), (2, 0.5), (4, 0.40625), (3, 0.299 / 4 + 0.587 * 0.75 + 0.114 / 2)):
        assert grey(x[:, :channels]).tolist() == [[[[pytest.approx(expected)]]]]
