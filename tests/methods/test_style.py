"""Clusters of failures, style transfer without an encoder, AugMix's operations and chains, the
consistency loss.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from airepair.corruptions.weather import plasma
from airepair.errors import UsageError
from airepair.methods.deeprepair_style import augmix_operations
from airepair.methods.deeprepair_style.augmix import Chains, divergence
from airepair.methods.deeprepair_style.clusters import k_means, references
from airepair.methods.deeprepair_style.transfer import (
    EPSILON,
    coloured,
    fourier,
    haar,
    painted,
    transfer_of,
    unhaar,
    wavelet,
)
from airepair.types import Split


def seeded(seed: int) -> torch.Generator:
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0, decay: float = 1.5) -> Tensor:
    """Fractal pictures in [0, 1]."""
    c, h, w = shape
    return plasma(n * c, max(h, w), decay, seeded(seed))[:, :h, :w].reshape(n, c, h, w).clone()


def test_k_means_finds_separate_groups() -> None:
    """Three far-apart groups are three clusters, whatever the seed."""
    points = torch.cat([torch.randn(20, 4, generator=seeded(k)) + 30 * k for k in range(3)])
    for seed in range(5):
        found = k_means(points, 3, seeded(seed)).reshape(3, 20)
        assert len(found[:, 0].unique()) == 3
        assert bool((found == found[:, :1]).all())


def test_k_means_of_few_or_equal_points() -> None:
    """No more points than clusters: each is its own. Equal points: one cluster."""
    assert k_means(torch.zeros(3, 2), 5, seeded(0)).tolist() == [0, 1, 2]
    assert k_means(torch.zeros(9, 2), 4, seeded(0)).unique().tolist() == [0]


def test_references_are_one_failure_a_cluster_and_class() -> None:
    """Two classes of two clear clusters: four references, one from each."""
    x = torch.cat([torch.full((6, 1, 4, 4), v) for v in (0.1, 0.9, 0.2, 0.8)]) + 0.01 * torch.rand(
        24, 1, 4, 4, generator=seeded(1)
    )
    found = references(Split(x, torch.tensor([0] * 12 + [1] * 12)), 2, 100, seeded(2))
    assert sorted(round(float(r.mean()), 1) for r in found) == [0.1, 0.2, 0.8, 0.9]
    assert all(bool((r == x).flatten(1).all(1).any()) for r in found)


def test_references_take_a_bounded_number_a_class() -> None:
    """With one image a class at most there is one reference a class."""
    assert (
        len(
            references(
                Split(torch.rand(20, 1, 4, 4, generator=seeded(1)), torch.arange(20) % 2), 5, 1, seeded(2)
            )
        )
        == 2
    )


def test_haar_is_inverted_and_keeps_energy() -> None:
    """Analysis and synthesis give the image back; the subbands have its energy."""
    x = torch.rand(2, 3, 8, 12, generator=seeded(0))
    bands = haar(x)
    torch.testing.assert_close(unhaar(*bands), x)
    assert sum(float(b.square().sum()) for b in bands) == pytest.approx(float(x.square().sum()), rel=1e-5)


def test_whitening_and_colouring_gives_the_style_s_statistics() -> None:
    """Channel means and covariances are the style's, for sizes that differ."""
    content, style = (
        torch.rand(2, 3, 16, 16, generator=seeded(1)),
        0.3 * torch.rand(2, 3, 20, 20, generator=seeded(2)) ** 2,
    )
    y, s = coloured(content, style).flatten(2), style.flatten(2)
    torch.testing.assert_close(y.mean(2), s.mean(2))
    for i in range(2):
        torch.testing.assert_close(
            torch.cov(y[i], correction=0), torch.cov(s[i], correction=0), atol=3 * EPSILON, rtol=0.02
        )


@pytest.mark.parametrize("name", ["wavelet", "fourier"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 7, 9)])
def test_an_image_in_its_own_style_is_itself(name: str, shape: tuple[int, int, int]) -> None:
    """No transfer changes an image whose style is its own, whatever the size."""
    x = pictures(4, shape)
    torch.testing.assert_close(transfer_of(name, None, x.device)(x, x), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("transfer", [wavelet, fourier])
def test_style_changes_the_look_and_keeps_the_content(transfer) -> None:  # type: ignore[no-untyped-def]
    """A dark style darkens; the layout stays the content's: correlated with it, not with the style."""
    content, style = pictures(16, (1, 32, 32), 1, decay=1.3), 0.3 * pictures(16, (1, 32, 32), 2, decay=1.3)
    y = transfer(content, style)
    torch.testing.assert_close(y.mean((1, 2, 3)), style.mean((1, 2, 3)), atol=0.02, rtol=0)

    def alike(a: Tensor, b: Tensor) -> float:
        return float(
            torch.stack(
                [
                    torch.corrcoef(torch.stack([p.flatten(), q.flatten()]))[0, 1]
                    for p, q in zip(a, b, strict=True)
                ]
            ).mean()
        )

    assert alike(y, content) > 0.4
    assert alike(y, content) > alike(y, style) + 0.3


def test_noise_is_a_style() -> None:
    """The wavelet transfer takes on the noise of its reference: the finest subband gets its strength."""
    content = pictures(8, (1, 32, 32), 1, decay=3.0)
    style = (
        pictures(8, (1, 32, 32), 2, decay=3.0) + 0.15 * torch.randn(8, 1, 32, 32, generator=seeded(3))
    ).clamp(0, 1)
    strength = [float(haar(x)[3].std()) for x in (content, wavelet(content, style), style)]
    assert strength[1] > 3 * strength[0]


class Negative:
    """An encoder whose features are the negative images."""

    def encode(self, x: Tensor) -> Tensor:
        """1 - x."""
        return 1 - x

    def decode(self, features: Tensor) -> Tensor:
        """1 - features."""
        return 1 - features


class Blind(nn.Module):
    """No encoder: it lacks decode."""


def test_a_user_s_encoder_is_taken() -> None:
    """Its features are whitened and coloured and decoded; an object without encode and decode is refused."""
    content, style = pictures(2, (3, 8, 8), 1), pictures(2, (3, 8, 8), 2)
    y = transfer_of("wavelet", f"{__name__}:Negative", content.device)(content, style)
    torch.testing.assert_close(y, coloured(content, style), atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="accepted: an object with both"):
        transfer_of("wavelet", f"{__name__}:Blind", content.device)


def test_painting_is_seeded_and_by_degrees() -> None:
    """One seed, one result, in [0, 1]; degree 0 is the image."""
    x, styles = pictures(6, (1, 8, 8), 1), pictures(3, (1, 8, 8), 2)
    one, two = (painted(x, styles, wavelet, 1.0, seeded(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert bool(((one >= 0) & (one <= 1)).all())
    assert torch.equal(painted(x, styles, wavelet, 0.0, seeded(4)), x)


@pytest.mark.parametrize("name", ["equalize", "posterize", "solarize", "autocontrast"])
def test_operations_on_values_are_pil_s(name: str) -> None:
    """On images of 256 values they give what PIL gives, per image its own level."""
    ops, image = pytest.importorskip("PIL.ImageOps"), pytest.importorskip("PIL.Image")
    pixels = (pictures(5, (3, 16, 16), 3) * 200 + 20).round().to(torch.uint8)
    pixels[0] = 77
    levels = torch.tensor([0.5, 2.6, 3.0, 6.0, 9.0])
    ours = getattr(augmix_operations, name)(pixels / 255, levels, torch.ones(5))
    for i in range(5):
        argument = {
            "posterize": (4 - int(float(levels[i]) * 4 / 10),),
            "solarize": (256 - int(float(levels[i]) * 256 / 10),),
        }.get(name, ())
        theirs = getattr(ops, name)(image.fromarray(pixels[i].permute(1, 2, 0).numpy()), *argument)
        wanted = torch.tensor(list(theirs.tobytes()), dtype=torch.float32).reshape(16, 16, 3).permute(2, 0, 1)
        assert float((ours[i] * 255 - wanted).abs().max()) <= 1.01  # PIL truncates where we keep a fraction


def test_operations_on_places_move_pixels() -> None:
    """A translation by three pixels moves a point by three; the sign turns it round; level 0 leaves
    the image alone.
    """
    x = torch.zeros(2, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    y = augmix_operations.translate_x(x, torch.full((2,), 10.0), torch.tensor([1.0, -1.0]))
    assert float(y[0, 0, 4, 1]) == pytest.approx(1, abs=1e-4)
    assert float(y[1, 0, 4, 7]) == pytest.approx(1, abs=1e-4)
    picture = pictures(2, (1, 9, 9))
    for name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        torch.testing.assert_close(
            getattr(augmix_operations, name)(picture, torch.zeros(2), torch.ones(2)),
            picture,
            atol=1e-5,
            rtol=0,
        )


def test_rotation_by_a_right_angle() -> None:
    """30 levels of 3 degrees: a quarter turn of a square image."""
    x = pictures(1, (1, 9, 9))
    y = augmix_operations.rotate(x, torch.tensor([30.0]), torch.ones(1))
    torch.testing.assert_close(y, x.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_chains_are_seeded_and_stay_images() -> None:
    """One seed, one result; values in [0, 1]; the images that came in stay as they are; each is
    changed in its own way.
    """
    x = pictures(12, (3, 32, 32), 1)
    before, stylised = x.clone(), pictures(12, (3, 32, 32), 2)
    one, two = (Chains()(x, stylised, seeded(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(x, before)
    assert bool(((one >= -1e-5) & (one <= 1 + 1e-5)).all())
    same = Chains()(x[:1].expand(12, -1, -1, -1), stylised[:1].expand(12, -1, -1, -1), seeded(5))
    assert len({round(float(image.sum()), 3) for image in same}) == 12


def test_some_chains_start_from_the_stylised_image() -> None:
    """A black image with a white style: the share of chains that show any white is that of drawing
    the style at least once.
    """
    n, chains = 4000, Chains(width=1, depth=1)
    x, white = torch.zeros(n, 1, 4, 4), torch.ones(n, 1, 4, 4)
    share = float((chains(x, white, seeded(6)).amax((1, 2, 3)) > 0).float().mean())
    assert share == pytest.approx(1 / (len(augmix_operations.OPERATIONS) + 1), abs=0.02)


def test_the_divergence_is_jensen_shannon_s() -> None:
    """0 for equal predictions; log 3 for three certain and different ones; symmetric; the mean over
    images.
    """
    same = torch.randn(1, 5, 3, generator=seeded(1)).expand(3, -1, -1)
    assert float(divergence(same)) == pytest.approx(0, abs=1e-6)
    certain = 100 * torch.eye(3)[:, None, :].expand(3, 5, 3)
    assert float(divergence(certain)) == pytest.approx(1.0986, abs=1e-3)
    some = torch.randn(3, 5, 4, generator=seeded(2))
    assert float(divergence(some)) == pytest.approx(float(divergence(some[[2, 0, 1]])), rel=1e-5)
    halves = torch.cat([same[:, :1], certain[:, :1]], 1)
    assert float(divergence(halves)) == pytest.approx(1.0986 / 2, abs=1e-3)


def test_the_darkest_value_is_black_once_equalized() -> None:
    """The flattened histogram begins at 0, exactly, whatever the darkest value was."""
    x = (pictures(3, (1, 16, 16), 3) * 200 + 20).round() / 255
    y = augmix_operations.equalize(x, torch.ones(3), torch.ones(3))
    assert float(x.min()) > 0
    assert y.amin((1, 2, 3)).tolist() == [0.0, 0.0, 0.0]
