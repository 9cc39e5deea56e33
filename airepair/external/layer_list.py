"""A plain sequence of layers as JSON, for tools that are not written in PyTorch."""

from __future__ import annotations

from typing import Any

from torch import nn

from airepair.errors import Unsupported

# Layer -> what another framework needs to know; the tensors are in the state_dict under the layer's name.
KNOWN: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    nn.BatchNorm1d: ("num_features", "eps", "momentum"),
    nn.BatchNorm2d: ("num_features", "eps", "momentum"),
    nn.Linear: ("in_features", "out_features"),
    nn.ReLU: (),
    nn.Flatten: ("start_dim",),
    nn.MaxPool2d: ("kernel_size", "stride", "padding"),
    nn.AvgPool2d: ("kernel_size", "stride", "padding"),
    nn.Dropout: ("p",),
    nn.Identity: (),
}


def describe(module: nn.Module, prefix: str = "") -> list[dict[str, Any]]:
    """Returns the layers in order: {"kind", "name" (of its tensors), its sizes}.

    Unsupported for anything but a sequence of known layers.
    """
    if type(module) is nn.Sequential:
        return [
            layer for name, child in module.named_children() for layer in describe(child, f"{prefix}{name}.")
        ]
    sizes = KNOWN.get(type(module))
    if sizes is None:
        known = ", ".join(k.__name__ for k in KNOWN)
        raise Unsupported(
            f"{type(module).__name__} {prefix.rstrip('.') or '(root)'} is not a layer of a plain "
            f"sequence; known: {known}"
        )
    bias = getattr(module, "bias", None) is not None
    found = {"kind": type(module).__name__, "name": prefix.rstrip("."), "bias": bias}
    return [found | {k: _plain(getattr(module, k)) for k in sizes}]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
