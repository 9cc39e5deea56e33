"""From a user's network to a module that takes the data set's images in [0, 1]: the scaling that is
stated and the file's own, composed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.formats.model_file import ModelFile
from airepair.models.input_adapter import InputAdapter
from airepair.subjects.user_model.input_spec import InputSpec

# a wider range of numbers than networks are trained on: it tells pixels in 0..1 (std .25) from
# pixels in 0..255 (std 64)
WIDEST = 50.0


def in_graph(opened: ModelFile) -> bool:
    """Whether the file's own scaling is part of its network (Keras, TensorFlow), so that it stays
    whatever the user says.
    """
    return opened.kind not in ("torch", "safetensors") and opened.feed is not None


def completed(feeding: InputSpec, opened: ModelFile) -> InputSpec:
    """Returns the feeding with what only the file tells: mean and std of a checkpoint, and the
    range of pixels that the scaling is made for.
    """
    scaling = opened.feed
    if (
        scaling is not None
        and not in_graph(opened)
        and feeding.mean is None
        and not isinstance(opened.module, InputAdapter)
    ):
        mean = tuple(-o / s for s, o in zip(scaling.scale, scaling.offset, strict=True))
        origins = {**feeding.origins, "mean": scaling.source, "std": scaling.source}
        feeding = replace(feeding, mean=mean, std=tuple(1 / s for s in scaling.scale), origins=origins)
    if feeding.input_range is not None:
        return feeding
    factors = [1 / s for s in feeding.std or ()]
    source = feeding.origins.get("std", "stated")
    if scaling is not None and in_graph(opened):
        factors, source = [abs(s) / min(feeding.std or (1.0,)) for s in scaling.scale], scaling.source
    if not factors:
        return replace(feeding, input_range=(0.0, 1.0), origins={**feeding.origins, "input_range": "default"})
    high = 1.0 if 255 * max(factors) > WIDEST else 255.0
    return replace(
        feeding,
        input_range=(0.0, high),
        origins={**feeding.origins, "input_range": f"detected from {source}"},
    )


def with_adapter(
    net: nn.Module,
    feeding: InputSpec,
    opened: ModelFile,
    shape: tuple[int, int, int],
    *,
    prepare: Callable[[Tensor], Tensor] | None = None,
    order: tuple[int, ...] | None = None,
) -> nn.Module:
    """Returns the network behind its feeding, or the network itself if nothing is to be done.

    UsageError for numbers that do not fit the images.
    """
    channels = shape[0]
    factor, offset = _affine(feeding, opened, channels)
    bgr, layout = feeding.colours == "bgr", feeding.layout or "NCHW"
    if bgr and channels != 3:
        raise UsageError(
            f"colours bgr do not fit images of {_channels(channels)}; accepted: images of 3 channels"
        )
    same = all(abs(f - 1) < 1e-6 for f in factor) and all(abs(o) < 1e-6 for o in offset)
    if same and not (bgr or layout != "NCHW" or prepare or order):
        return net
    sign = -1.0 if factor[0] < 0 else 1.0
    if any(f * sign <= 0 for f in factor):
        raise UsageError(f"the scaling {factor} turns some channels round and not others; that is not read")
    mean, std = [-o / abs(f) for f, o in zip(factor, offset, strict=True)], [1 / abs(f) for f in factor]
    if len(set(mean)) == len(set(std)) == 1:
        mean, std = mean[:1], std[:1]
    return InputAdapter(net, mean, std, sign, bgr=bgr, layout=layout, prepare=prepare, order=order).eval()


def _affine(feeding: InputSpec, opened: ModelFile, channels: int) -> tuple[list[float], list[float]]:
    """Factor and offset of each channel: network input = factor * (pixel in 0..1) + offset."""
    low, high = feeding.input_range or (0.0, 1.0)
    mean, std = _each("mean", feeding.mean or (0.0,), channels), _each("std", feeding.std or (1.0,), channels)
    factor, offset = [(high - low) / s for s in std], [(low - m) / s for m, s in zip(mean, std, strict=True)]
    if opened.feed is None or not in_graph(opened):
        return factor, offset
    a, b = (
        _each(f"the file's scaling ({opened.feed.source})", v, channels)
        for v in (opened.feed.scale, opened.feed.offset)
    )
    return [f * s for f, s in zip(factor, a, strict=True)], [
        o * s + t for o, s, t in zip(offset, a, b, strict=True)
    ]


def _each(name: str, values: tuple[float, ...], channels: int) -> list[float]:
    if len(values) not in (1, channels):
        accepted = "1 number" if channels == 1 else f"1 number or {channels}"
        raise UsageError(
            f"{name} has {len(values)} numbers {values}, the images {_channels(channels)}; accepted: "
            f"{accepted}"
        )
    return list(values) * (channels if len(values) == 1 else 1)


def _channels(n: int) -> str:
    return f"{n} channel{'s' if n > 1 else ''}"
