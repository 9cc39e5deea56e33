"""One image file as an array: H x W bytes where it is grey, H x W x 3 where it has colours. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from airepair.data.arrays import Array
from airepair.errors import UsageError, one_line

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
ANIMATED = (
    "GIF",
    "PNG",
    "TIFF",
    "WEBP",
)  # formats whose files may hold several images; MPO, of phones, holds previews


@dataclass(frozen=True, eq=False)
class Picture:
    """`pixels` is uint8, H x W or H x W x 3; `composited` says that a transparent part was put on white."""

    pixels: Array
    composited: bool = False


def read_picture(file: Path) -> Picture:
    """Returns the image of a file.

    UsageError, one line, where it is damaged, an animation, or has more than 8 bits per pixel and
    channel.
    """
    try:
        with Image.open(file) as image:
            return _picture(image, file)
    except UsageError:
        raise
    except Exception as error:  # Pillow's many readers raise whatever they meet
        raise UsageError(f"{file} is not a readable image: {one_line(error, 160)}") from None


def _picture(image: Image.Image, file: Path) -> Picture:
    if image.mode.startswith(("I", "F")):
        raise UsageError(
            f"{file} has more than 8 bits per pixel ({image.mode}); accepted: 8-bit grey or colour images"
        )
    if image.format in ANIMATED and getattr(image, "n_frames", 1) > 1:
        raise UsageError(f"{file} holds {image.n_frames} images; accepted: one image per file")  # type: ignore[attr-defined]
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return Picture(np.asarray(image.convert("L")))
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return _on_white(np.asarray(image.convert("RGBA")), grey or image.mode in ("P", "PA"), file)
    pixels = np.asarray(image.convert("RGB"))
    return Picture(pixels[..., 0] if image.mode == "P" and _is_grey(pixels) else pixels)


def _on_white(pixels: Array, maybe_grey: bool, file: Path) -> Picture:
    """Pixels H x W x 4 on a white ground, as a web page shows them.

    UsageError if nothing of a drawing is left.
    """
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    opaque, share = bool((alpha == 255).all()), alpha.astype(np.uint32)
    # In rounded integers: the same bytes on every machine.
    found = colours if opaque else ((colours * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
    if not opaque and int(alpha.min()) != int(alpha.max()) and bool((found == found[:1, :1]).all()):
        raise UsageError(
            f"{file} is of one colour on a white ground, its drawing is in its alpha channel; accepted: "
            f"images without it"
        )
    return Picture(found[..., 0] if maybe_grey and _is_grey(found) else found, not opaque)


def _is_grey(pixels: Array) -> bool:
    return bool((pixels[..., :1] == pixels).all())
