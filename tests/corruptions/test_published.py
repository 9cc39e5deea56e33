"""Each corruption gives the numbers of its published definition.

CIFAR-10-C: github.com/hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py at ca36008;
MNIST-C: github.com/google-research/mnist-c, corruptions.py at aa07569. Both call scipy,
scikit-image, OpenCV and ImageMagick. Here scipy and PIL compute the same anew, image by image in
float64, or a loop follows the definition; the random numbers are drawn from the seed in the order
in which the corruption draws them.
"""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from airepair.corruptions import SEVERITIES, Corruption
from airepair.corruptions.filters import beyond, dragged
from airepair.corruptions.weather import plasma

Array = NDArray[np.float64]
LEVEL = 1 / 255
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8)]


def pictures(shape: tuple[int, int, int], n: int = 3) -> Tensor:
    """Noisy pictures with an edge, of 256 levels."""
    generator = torch.Generator().manual_seed(0)
    c, h, w = shape
    x = plasma(n * c, h, 1.5, generator).reshape(n, *shape) + 0.1 * torch.randn(
        n, *shape, generator=generator
    )
    x[:, :, h // 4 : h // 2, w // 4 : w // 2] = 1
    return (x.clamp(0, 1) * 255).round() / 255


def numbers(x: Tensor) -> Array:
    """N x H x W x C in float64."""
    return x.permute(0, 2, 3, 1).double().numpy()


def seeded() -> torch.Generator:
    """The generator of every test."""
    return torch.Generator().manual_seed(4)


def corrupted(name: str, severity: int, x: Tensor) -> Array:
    """What the corruption makes of the images."""
    return numbers(Corruption(name, severity)(x, seeded()))


def eight_bits(x: Array) -> Array:
    """np.uint8(255 x) / 255, with room for rounding errors of float64."""
    return np.floor(255 * np.clip(x, 0, 1) + 1e-6) / 255


def drag(image: Array, length: int, sigma: float, degrees: float) -> Array:
    """ImageMagick's MotionBlurImage (MagickCore/effect.c, quanta of 16 bits), pixel by pixel, and
    the upper eight bits for the file.
    """
    h, w = image.shape[:2]
    weights = [np.exp(-k * k / (2 * sigma * sigma)) for k in range(2 * length + 1)]
    angle, out = np.deg2rad(degrees), np.zeros_like(image)
    for y in range(h):
        for x in range(w):
            for k, weight in enumerate(weights):
                right, down = int(np.ceil(k * np.cos(angle) - 0.5)), int(np.ceil(k * np.sin(angle) - 0.5))
                out[y, x] += (
                    weight / sum(weights) * image[min(max(y + down, 0), h - 1), min(max(x + right, 0), w - 1)]
                )
    return np.floor(np.round(out * 65535) / 257) / 255


def zoom(image: Array, factor: float) -> Array:
    """The published enlargement: crop, scipy's zoom of order 1, cut."""
    size = len(image)
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    large = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
    cut = (len(large) - size) // 2
    return np.asarray(large[cut : cut + size, cut : cut + size])


def moved(image: Array, matrix: Array, mode: str) -> Array:
    """Each output pixel (x, y) takes the value at matrix (x, y, 1)."""
    linear, offset = matrix[::-1, 1::-1], matrix[::-1, 2]
    planes = [
        ndimage.affine_transform(plane, linear, offset, order=1, mode=mode)
        for plane in np.moveaxis(image, 2, 0)
    ]
    return np.stack(planes, 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys(severity: int, shape: tuple[int, int, int]) -> None:
    """Standard deviations .4, .6, .7, .8 and 1, cut at 4 of them, the edge repeated."""
    x, sigma = pictures(shape), (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = [
        ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4) for image in numbers(x)
    ]
    np.testing.assert_allclose(corrupted("gaussian_blur", severity, x), expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_is_a_soft_disk_and_mirrors_the_edge(severity: int, shape: tuple[int, int, int]) -> None:
    """A disk of the radius in a 17 x 17 field, under a 3 x 3 Gaussian; OpenCV's filter2D mirrors
    about the outer pixels.
    """
    x, (radius, alias) = (
        pictures(shape),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1],
    )
    inside = np.array([[float(i * i + j * j <= radius**2) for j in range(-8, 9)] for i in range(-8, 9)])
    line = np.exp(-0.5 * (np.array([-1, 0, 1]) / alias) ** 2)
    kernel = ndimage.correlate(inside / inside.sum(), np.outer(line, line) / line.sum() ** 2, mode="mirror")
    expected = [ndimage.correlate(image, kernel[:, :, None], mode="mirror") for image in numbers(x)]
    np.testing.assert_allclose(corrupted("defocus_blur", severity, x), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_is_the_published_loop(severity: int) -> None:
    """From the last pixel to the third of each axis, each takes the value at itself or one up or
    left, between two blurs; eight bits in between.
    """
    x, (sigma, rounds) = (
        pictures((3, 32, 32)),
        ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1],
    )
    generator = seeded()
    shifts = [torch.randint(-1, 1, (2, 3, 32, 32), generator=generator).numpy() for _ in range(rounds)]
    for n, image in enumerate(numbers(x)):
        y = eight_bits(ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4))
        for shift in shifts:
            for h in range(31, 1, -1):
                for w in range(31, 1, -1):
                    down, right = shift[:, n, h, w]
                    y[h, w] = y[h + down, w + right]
        expected = ndimage.gaussian_filter(y, (sigma, sigma, 0), mode="nearest", truncate=4)
        # Where float32 and float64 round a value down to neighbouring levels, the pixels around
        # differ by less than a level.
        different = np.abs(corrupted("glass_blur", severity, x)[n] - expected)
        assert different.max() < 1.01 * LEVEL
        assert (different > 1e-6).mean() < 0.05


def test_a_trail_is_imagemagicks() -> None:
    """What ImageMagick 6.9.11-60 makes of one white pixel in 15 x 15 (in the middle, then at row 0,
    column 2): radius 4, sigma 3, -60 degrees.
    """
    for at, expected in (
        (
            (7, 7),
            {
                (7, 7): 60,
                (8, 6): 56,
                (9, 6): 48,
                (10, 5): 61,
                (11, 4): 14,
                (12, 4): 8,
                (13, 3): 3,
                (14, 3): 1,
            },
        ),
        (
            (0, 2),
            {
                (0, 0): 61,
                (0, 1): 104,
                (0, 2): 60,
                (1, 0): 61,
                (1, 1): 104,
                (2, 0): 61,
                (2, 1): 48,
                (3, 0): 61,
            },
        ),
    ):
        x = torch.zeros(2, 1, 15, 15)
        x[1, 0, *at] = 1
        y = (dragged(x, 4, 3.0, torch.tensor([10.0, -60.0])) * 255).round().int()
        assert {(r, c): int(y[1, 0, r, c]) for r, c in y[1, 0].nonzero().tolist()} == expected
        assert not y[0].any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_is_imagemagicks(severity: int) -> None:
    """Radius and sigma (6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5); each image at its own angle from
    -45 to 45 degrees.
    """
    x, (length, sigma) = (
        pictures((3, 32, 32), 2),
        ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1],
    )
    angles = (90 * torch.rand(2, generator=seeded()) - 45).tolist()
    expected = np.stack([drag(image, length, sigma, a) for image, a in zip(numbers(x), angles, strict=True)])
    different = np.abs(corrupted("motion_blur", severity, x) - expected)
    assert different.max() < 1.01 * LEVEL
    assert (different > 1e-6).mean() < 0.001


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_averages_the_published_enlargements(severity: int, shape: tuple[int, int, int]) -> None:
    """np.arange(1, end, .01) has 7, 12, 16, 21 and 26 factors by its rounding; the image itself
    counts once more.
    """
    x, end = pictures(shape), (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, end, 0.01)
    assert len(factors) == (7, 12, 16, 21, 26)[severity - 1]
    expected = [(image + sum(zoom(image, f) for f in factors)) / (len(factors) + 1) for image in numbers(x)]
    np.testing.assert_allclose(corrupted("zoom_blur", severity, x), expected, atol=1e-6)


def published_plasma(size: int, decay: float, generator: torch.Generator) -> Array:
    """Diamond-square as published: amplitudes from 100, each used twice over (wibble *
    uniform(-wibble, wibble)).
    """
    field, step, wibble = np.zeros((size, size)), size, 100.0

    def noise(shape: tuple[int, ...]) -> Array:
        return wibble * wibble * (2 * torch.rand((1, *shape), generator=generator)[0] - 1).double().numpy()

    while step >= 2:
        half, cells = step // 2, size // step
        for kind in ("squares", "above", "left"):
            wobble = noise((cells, cells))
            for i in range(cells):
                for j in range(cells):
                    r, c = i * step, j * step
                    if kind == "squares":
                        r, c = r + half, c + half
                        near = [
                            (r - half, c - half),
                            (r - half, c + half),
                            (r + half, c - half),
                            (r + half, c + half),
                        ]
                    else:
                        r, c = (r, c + half) if kind == "above" else (r + half, c)
                        near = [(r - half, c), (r + half, c), (r, c - half), (r, c + half)]
                    field[r, c] = sum(field[a % size, b % size] for a, b in near) / 4 + wobble[i, j]
        step, wibble = half, wibble / decay
    field -= field.min()
    return field / field.max()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_is_the_published_haze(severity: int) -> None:
    """x + density * plasma(decay), scaled so that the largest value stays."""
    x, (density, decay) = (
        pictures((3, 32, 32), 1),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1],
    )
    image, haze = numbers(x)[0], published_plasma(32, decay, seeded())[:, :, None]
    expected = (image + density * haze) * image.max() / (image.max() + density)
    np.testing.assert_allclose(corrupted("fog", severity, x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_is_the_published_one(severity: int) -> None:
    """Mean, spread, zoom, threshold, radius and sigma of the trail, share of the image; the layer
    is added once more, turned by half a circle.
    """
    mean, spread, factor, threshold, length, sigma, share = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    x, generator = pictures((3, 32, 32), 1), seeded()
    noise = torch.randn(1, 1, 32, 32, generator=generator)[0, 0].double().numpy()[:, :, None]
    angle = float(90 * torch.rand(1, generator=generator) - 135)
    flakes = zoom(mean + spread * noise, factor)
    flakes = drag(eight_bits(np.where(flakes < threshold, 0, flakes)), length, sigma, angle)
    image = numbers(x)[0]
    luma = (image * np.array([0.299, 0.587, 0.114])).sum(2, keepdims=True)
    expected = (
        share * image + (1 - share) * np.maximum(image, luma * 1.5 + 0.5) + flakes + np.rot90(flakes, 2)
    )
    different = np.abs(corrupted("snow", severity, x)[0] - np.clip(expected, 0, 1))
    assert flakes.max() > 0
    assert different.max() < 2.01 * LEVEL
    assert (different > 1e-6).mean() < 0.02


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_to_the_value_of_a_colour(severity: int, shape: tuple[int, int, int]) -> None:
    """HSV by the standard library; grey images have no hue."""
    x, more = pictures(shape), (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    x[0, :, 0, 0] = 0

    def brighter(pixel: Array) -> Array:
        h, s, v = colorsys.rgb_to_hsv(*np.broadcast_to(pixel, 3))
        return np.array(colorsys.hsv_to_rgb(h, s, min(1, v + more)))[: len(pixel)]

    expected = np.apply_along_axis(brighter, 3, numbers(x))
    np.testing.assert_allclose(corrupted("brightness", severity, x), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_shrinks_each_channel_to_its_mean(severity: int) -> None:
    """To .75, .5, .4, .3 and .15 of the distance."""
    x, left = pictures((3, 32, 32)), (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = numbers(x).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(
        corrupted("contrast", severity, x), (numbers(x) - means) * left + means, atol=1e-6
    )


def box(values: Array, cells: int) -> Array:
    """PIL's box filter along the first axis: a cell takes the mean of the pixels whose centres lie
    in it, or of the nearest one.
    """
    scale = len(values) / cells
    width = max(scale, 1)
    rows = []
    for k in range(cells):
        middle = (k + 0.5) * scale
        inside = [i for i in range(len(values)) if -0.5 < (i + 0.5 - middle) / width <= 0.5]
        rows.append(values[inside].mean(0))
    return np.floor(np.stack(rows) * 255 + 0.5 + 1e-9) / 255


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 8)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_counts_a_pixel_by_its_centre(severity: int, shape: tuple[int, int, int]) -> None:
    """int(.95 h) to int(.65 h) cells and back, columns first, each pass rounded to 256 levels.

    Not the mean of what a cell covers.
    """
    x, share = pictures(shape), (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    size = shape[1]
    for image, found in zip(numbers(x), corrupted("pixelate", severity, x), strict=True):
        y = image
        for cells in (int(size * share), size):
            y = box(box(y.transpose(1, 0, 2), cells).transpose(1, 0, 2), cells)
        np.testing.assert_allclose(found, y, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_loses_what_a_jpeg_file_loses(severity: int, channels: int) -> None:
    """Quality 80, 65, 58, 50 and 40, through a file."""
    x, file = pictures((channels, 32, 32), 1), io.BytesIO()
    values = (numbers(x)[0] * 255).round().astype(np.uint8)
    Image.fromarray(values.squeeze()).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    expected = np.asarray(Image.open(file)).reshape(32, 32, channels) / 255
    assert np.abs(expected - numbers(x)[0]).mean() > LEVEL
    np.testing.assert_allclose(corrupted("jpeg_compression", severity, x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_is_the_published_warp_and_wave(severity: int, shape: tuple[int, int, int]) -> None:
    """Three points around pixel (h // 2, h // 2) moved (mirrored edge), then waves (edge repeated);
    lengths are shares of the height.
    """
    x, h, generator = pictures(shape), shape[1], seeded()
    strength, sigma, jitter = (
        h
        * np.array(
            ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[
                severity - 1
            ]
        )
    ).tolist()
    pushes = (2 * torch.rand(3, 3, 2, generator=generator) - 1).double().numpy()
    fields = (2 * torch.rand(3, 2, h, h, generator=generator) - 1).double().numpy()
    middle, reach = h // 2, h // 3
    points = np.array(
        [[middle + reach, middle + reach], [middle + reach, middle - reach], [middle - reach, middle - reach]]
    )
    columns, rows = np.meshgrid(np.arange(h), np.arange(h))
    for image, push, field, found in zip(
        numbers(x), pushes, fields, corrupted("elastic_transform", severity, x), strict=True
    ):
        back = np.linalg.solve(np.column_stack([points + jitter * push, np.ones(3)]), points).T
        y = moved(image, back, "mirror")
        right, down = (
            strength * ndimage.gaussian_filter(f, sigma, mode="reflect", truncate=3) if sigma else 0 * f
            for f in field
        )
        waves = [
            ndimage.map_coordinates(plane, [rows + down, columns + right], order=1, mode="reflect")
            for plane in np.moveaxis(y, 2, 0)
        ]
        np.testing.assert_allclose(found, np.stack(waves, 2), atol=2e-4)


@pytest.mark.parametrize("name", ["rotate", "shear"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_mnist_cs_turns_are_of_a_fifth_of_a_radian_a_step(severity: int, name: str) -> None:
    """About the middle, with either sign; a shear turns the vertical axis alone
    (AffineTransform(shear=...) of scikit-image 0.15).
    """
    x = pictures((1, 28, 28), 8)
    signs = 2 * torch.randint(2, (8,), generator=seeded()) - 1
    assert signs.unique().tolist() == [-1, 1]
    for image, sign, found in zip(numbers(x), signs.tolist(), corrupted(name, severity, x), strict=True):
        a = 0.2 * severity * sign
        turn = np.array(
            [
                [np.cos(a) if name == "rotate" else 1, -np.sin(a)],
                [np.sin(a) if name == "rotate" else 0, np.cos(a)],
            ]
        )
        matrix = np.column_stack([turn, 13.5 * (1 - turn.sum(1))])
        np.testing.assert_allclose(found, moved(image, matrix, "grid-constant"), atol=1e-5)


def test_a_stripe_at_each_side_is_inverted() -> None:
    """MNIST-C inverts columns 0 to 6 and 21 to 27 of 28: severity 5 here; a fifth of that at
    severity 1, and never less than a column.
    """
    x = pictures((1, 28, 28))
    y = numbers(x)
    y[:, :, :7], y[:, :, 21:] = 1 - y[:, :, :7], 1 - y[:, :, 21:]
    np.testing.assert_allclose(corrupted("stripe", 5, x), y, atol=1e-6)
    changed = [
        (corrupted("stripe", s, pictures((1, 8, 8))) != numbers(pictures((1, 8, 8)))).any((0, 1, 3)).sum()
        for s in SEVERITIES
    ]
    assert changed == [2, 2, 2, 4, 4]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_published_strength(severity: int) -> None:
    """Standard deviations of noise and speckle, photons of shot noise, the share of salt and pepper
    (half each), on grey images.
    """
    x = torch.full((40, 3, 32, 32), 0.5)

    def change(name: str) -> Tensor:
        return Corruption(name, severity)(x, seeded()) - x

    assert float(change("gaussian_noise").std()) == pytest.approx(
        (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], rel=0.02
    )
    assert float(change("speckle_noise").std()) == pytest.approx(
        0.5 * (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1], rel=0.02
    )
    assert float(change("shot_noise").var()) == pytest.approx(
        0.5 / (500, 250, 100, 75, 50)[severity - 1], rel=0.03
    )
    hit, amount = change("impulse_noise"), (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    assert float((hit != 0).float().mean()) == pytest.approx(amount, rel=0.1)
    assert float((hit > 0).float().mean()) == pytest.approx(amount / 2, rel=0.15)


def test_shot_noise_counts_photons() -> None:
    """A pixel is a whole number of photons, of which white has so many on average."""
    x = torch.full((1, 3, 16, 16), 0.5)
    for severity, photons in zip(SEVERITIES, (500, 250, 100, 75, 50), strict=True):
        counted = Corruption("shot_noise", severity)(x, seeded()) * photons
        torch.testing.assert_close(counted, counted.round(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("edge", "mode"), [("nearest", "edge"), ("reflect", "symmetric"), ("mirror", "reflect")]
)
def test_an_axis_goes_on_outside_as_in_numpy(edge: str, mode: str) -> None:
    """Also by more than the image is wide."""
    for size in (1, 2, 5):
        for radius in (0, 1, 4, 11):
            expected = np.pad(np.arange(size), radius, mode=mode)  # type: ignore[call-overload]
            assert beyond(size, radius, edge).tolist() == expected.tolist()  # type: ignore[arg-type]
