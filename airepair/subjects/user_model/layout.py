"""Which layout a brought network takes images in: as stated, as its file tells, or the first one
that it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from airepair.data.source import Source
from airepair.errors import UsageError
from airepair.evaluation.exam import logits_of
from airepair.formats.model_file import ModelFile
from airepair.models.layouts import LAYOUTS, Shape, layouts_of, shape_in, written
from airepair.subjects.user_model.input_spec import InputSpec
from airepair.subjects.user_model.normalisation import with_adapter


def with_layout(
    feeding: InputSpec,
    opened: ModelFile,
    data: Source,
    what: str,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> InputSpec:
    """Returns the feeding with the layout that the network in the file `what` takes, if it is not N
    x C x H x W.

    `prepare`: the user's own code lays the images out, and nothing is tried. UsageError if the
    network takes no images of the data set's size, or others than is stated.
    """
    stated, taken, image = feeding.layout, opened.shape, _image(data)
    if stated is not None and shape_in(stated, image) is None:
        raise UsageError(
            f"layout {stated} has no room for the {image[0]} channels of {data.name}; accepted: "
            f"{', '.join(_fitting(image))}"
        )
    if taken is None:
        return feeding if stated or prepare else _tried(feeding, opened, data)
    found = layouts_of(taken, image, opened.channels_last)
    if not found:
        order = " (channels x height x width)" if len(taken) == 3 else ""
        raise UsageError(
            f"{what} takes images of {written(taken)}{order}, {data.name} has {written(image)}; "
            "accepted: a network for these"
        )
    if stated is None:
        origin = {"layout": f"the file, which takes N x {written(taken)}"}
        return (
            feeding
            if found[0] == "NCHW"
            else replace(feeding, layout=found[0], origins={**feeding.origins, **origin})
        )
    if found[0] == "NCHW" and stated == "NHWC" and opened.channels_last:
        return replace(feeding, layout="NCHW")  # true of the file; what was made of it takes channels first
    if shape_in(stated, image) != tuple(taken):
        raise UsageError(
            f"layout {stated} ({feeding.origins.get('layout', 'stated')}): "
            f"{what} takes N x {written(taken)}; accepted: {', '.join(found)}"
        )
    return feeding


def _tried(feeding: InputSpec, opened: ModelFile, data: Source) -> InputSpec:
    """The feeding with the first layout in which a network, whose file tells none, answers images with
    one logit per class.

    As it is where that is N x C x H x W, and if there is none: the error is then that of N x C x H x W.
    """
    images, image = data.train.images(slice(0, 2)).cpu(), _image(data)
    for word in _candidates(image):
        other = replace(feeding, layout=word)
        if _answers(with_adapter(opened.module, other, opened, image), images, len(data.classes)):
            origin = {"layout": "the first that the network takes; N x C x H x W it does not"}
            return feeding if word == "NCHW" else replace(other, origins={**feeding.origins, **origin})
    return feeding


def _answers(module: nn.Module, images: Tensor, classes: int) -> bool:
    try:
        logits = logits_of(module, images)
    except Exception:  # whatever a user's network raises on what it does not take
        return False
    return tuple(logits.shape) == (len(images), classes) and bool(torch.isfinite(logits).all())


def _candidates(image: Shape) -> list[str]:
    """NCHW first, NHWC last: a network that mixes the two up may answer all the same."""
    return [*(word for word in _fitting(image) if "NHWC" not in word), "NHWC"]


def _fitting(image: Shape) -> list[str]:
    return [word for word in LAYOUTS if shape_in(word, image) is not None]


def _image(data: Source) -> tuple[int, int, int]:
    channels, height, width = data.train.x.shape[1:]
    return int(channels), int(height), int(width)
