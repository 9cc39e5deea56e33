"""How a network's input lays out an image: the words for it, and images in that order. Free of torch.

Images are N x C x H x W everywhere in this project. A network may want them channels last, without
the channel axis (grey images), or as flat vectors; a flat vector of a colour image holds channel
after channel, as torch flattens, or pixel after pixel, as Keras and TensorFlow do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Shape = tuple[int, ...]

# Word -> the shape of one input for images of C x H x W. `NHW` holds grey images only.
LAYOUTS: dict[str, Callable[[int, int, int], Shape]] = {
    "NCHW": lambda c, h, w: (c, h, w),
    "NHWC": lambda c, h, w: (h, w, c),
    "NHW": lambda _, h, w: (h, w),
    "flat": lambda c, h, w: (c * h * w,),
    "flat-NHWC": lambda c, h, w: (c * h * w,),
    "flat-column": lambda c, h, w: (c * h * w, 1),
    "flat-row": lambda c, h, w: (1, c * h * w),
}


def shape_in(layout: str, image: Shape) -> Shape | None:
    """Returns the shape of one input of that layout for images of C x H x W; None if it cannot
    hold them.
    """
    channels, height, width = image
    return None if layout == "NHW" and channels != 1 else LAYOUTS[layout](channels, height, width)


def layouts_of(taken: Shape, image: Shape, channels_last: bool = False) -> tuple[str, ...]:
    """Returns the layouts in which images of C x H x W have the shape `taken`, the likeliest first;
    none where they do not fit.

    `channels_last`: the format flattens pixel after pixel (Keras, TensorFlow).
    """
    found = [word for word in LAYOUTS if shape_in(word, image) == tuple(taken)]
    if image[0] == 1:
        return tuple(word for word in found if word != "flat-NHWC")  # one channel: the same as flat
    if channels_last:
        return tuple(
            sorted(
                (w for w in found if w not in ("flat-column", "flat-row")),
                key=lambda word: word != "flat-NHWC",
            )
        )
    return tuple(found)


def arranged(x: Any, layout: str) -> Any:
    """Returns the images N x C x H x W (a numpy array or a torch tensor) in that layout."""
    if layout.endswith("NHWC"):
        x = x.permute(0, 2, 3, 1) if hasattr(x, "permute") else x.transpose(0, 2, 3, 1)  # torch's, numpy's
    if layout == "NHW":
        return x.reshape(x.shape[0], *x.shape[2:])
    if layout in ("flat", "flat-NHWC"):
        return x.reshape(x.shape[0], -1)
    if layout == "flat-column":
        return x.reshape(x.shape[0], -1, 1)
    return x.reshape(x.shape[0], 1, -1) if layout == "flat-row" else x


def images_in(x: Any) -> Any:
    """Returns an array of images as N x C x H x W, however it has its axes (N x H x W, N x H x W x
    C, N x C x H x W); None for anything else.
    """
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        return None
    return x.transpose(0, 3, 1, 2) if x.shape[3] in (1, 3) and x.shape[1] not in (1, 3) else x


def written(shape: Shape) -> str:
    """Returns a shape in words: 3 x 32 x 32."""
    return " x ".join(map(str, shape))
