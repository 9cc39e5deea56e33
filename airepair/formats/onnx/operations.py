"""Operations that onnx2torch 1.5.15 does not convert, by its own registry: GELU, and average
pooling with uneven padding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from airepair.formats.extra_layers import SamePadAverage
from airepair.formats.onnx.terms import AVERAGE, OPSET, OWN_DOMAIN
from airepair.models.vision import torchvision


@cache
def converter() -> Callable[[Any], nn.Module]:
    """Returns onnx2torch's `convert` with these operations added, once for each process."""
    torchvision()  # onnx2torch imports it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx2torch import convert
    from onnx2torch.node_converters.registry import add_converter
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    def added(kind: str, version: int, domain: str, made: Callable[[Any], nn.Module]) -> None:
        def layer(node: Any, graph: Any) -> Any:
            return OperationConverterResult(
                torch_module=made(node.attributes), onnx_mapping=onnx_mapping_from_node(node=node)
            )

        add_converter(operation_type=kind, version=version, domain=domain)(layer)

    added("Gelu", OPSET, "", lambda a: nn.GELU(a.get("approximate", "none")))
    added(AVERAGE, 1, OWN_DOMAIN, _average)
    found: Callable[[Any], nn.Module] = convert
    return found


def _average(attributes: Any) -> nn.Module:
    top, left, bottom, right = attributes["pads"]
    kernel, strides = (tuple(attributes.get(k, (1, 1))) for k in ("kernel_shape", "strides"))
    return SamePadAverage(kernel, strides, (left, right, top, bottom))
