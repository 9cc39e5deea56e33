"""MMdnn IR -> Keras model, by MMdnn's Keras2Emitter on today's Keras (docs/formats.md, shim D)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from airepair.errors import UsageError, one_line
from airepair.formats.keras.files import load_keras
from airepair.formats.mmdnn.ir import IRModel, elements, graph_pb2, quiet, scaling_of

# The emitted text asks for what Keras 3 has moved or dropped.
_REPLACED = (
    ("from keras.layers.core import Lambda", "from keras.layers import Lambda"),
    ("import tensorflow as tf", ""),
    ("input.shape.ndims", "len(input.shape)"),
    ("K.int_shape(input)", "tuple(input.shape)"),
    ("my_add()([", "layers.Add()(["),
)


def to_keras(model: IRModel) -> Any:
    """Returns the network (nodes already renamed) as a Keras model that needs no custom classes.

    UsageError naming what cannot be written.
    """
    load_keras()
    emitter = _emitter_class()(model)
    with quiet():
        try:
            code = emitter.gen_code("test")
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"MMdnn cannot emit the network as Keras: {one_line(error, 160)}") from error
    for old, new in _REPLACED:
        code = code.replace(old, new)
    scope: dict[str, Any] = {}
    try:
        exec(
            compile(code, "<mmdnn>", "exec"), scope
        )  # node names are n0, n1, ...: no text of a foreign file is in it
        scope["load_weights_from_file"] = lambda _: emitter.weights_dict
        made = scope["KitModel"]("from memory")
    except Exception as error:
        raise UsageError(f"MMdnn's Keras code does not run: {one_line(error, 160)}") from error
    if made.count_params() != elements(model):
        raise UsageError(
            f"the Keras network has {made.count_params()} numbers in its weights, "
            f"the original {elements(model)}"
        )
    return made


def _emitter_class() -> Any:
    graph_pb2()
    emitter_class = _imported()

    class Emitter(emitter_class):  # type: ignore[misc, valid-type]
        """MMdnn's emitter with weights from memory, the momentum of batch norms, channel dropout
        and grouped convolutions.
        """

        def __init__(self, model: IRModel) -> None:
            self.source = model
            with tempfile.TemporaryDirectory() as folder, quiet():
                path = Path(folder) / "graph.pb"
                path.write_bytes(model.graph.SerializeToString())
                super().__init__((str(path), {k: dict(v) for k, v in model.weights.items()}))

        def _load_weights(self, weights: Any = None) -> None:
            self.weights_dict, self.weight_loaded = weights, True

        def emit_UNKNOWN(self, node: Any, in_scope: bool = False) -> None:
            raise UsageError(
                f"layer {self.source.names.get(node.name, node.name)!r} ({node.type}) cannot be written "
                f"as Keras"
            )

        def emit_Conv(self, node: Any, in_scope: bool = False) -> str:
            source, padding = self._defuse_padding(node)
            height, width, _, filters = self.weights_dict[node.name]["weights"].shape
            strides, dilation = (
                tuple(node.get_attr("strides")[1:3]),
                tuple((node.get_attr("dilations") or [1, 1, 1, 1])[1:3]),
            )
            text = (
                f"filters={filters}, kernel_size={(height, width)}, strides={strides}, "
                f"dilation_rate={dilation}, padding='{padding}'"
            )
            more = (
                f"groups={node.get_attr('group', 1) or 1}, use_bias={'bias' in self.weights_dict[node.name]}"
            )
            return f"{node.variable_name} = layers.Conv2D(name='{node.name}', {text}, {more})({source})"

        def emit_BatchNorm(self, node: Any, in_scope: bool = False) -> str:
            momentum = 1.0 - self.source.momentum.get(node.name, 0.1)
            text: str = super().emit_BatchNorm(node)
            return text.replace("epsilon = ", f"momentum = {momentum!r}, epsilon = ")

        def emit_Dropout(self, node: Any, in_scope: bool = False) -> str:
            kind = "SpatialDropout2D" if node.layer.attr["channelwise"].b else "Dropout"
            rate = round(float(node.layer.attr["keep_prob"].f), 6)
            return (
                f"{node.variable_name} = layers.{kind}(name='{node.name}', "
                f"rate={rate!r})({self.parent_variable_name(node)})"
            )

        def emit_Reshape(self, node: Any, in_scope: bool = False) -> str:
            shape = tuple(int(n) for n in node.get_attr("shape")[1:])
            return (
                f"{node.variable_name} = layers.Reshape({shape}, "
                f"name='{node.name}')({self.parent_variable_name(node)})"
            )

        def emit_LeakyRelu(self, node: Any, in_scope: bool = False) -> str:
            slope = round(float(node.layer.attr["alpha"].f), 7)
            return (
                f"{node.variable_name} = layers.LeakyReLU(name='{node.name}', "
                f"negative_slope={slope!r})({self.parent_variable_name(node)})"
            )

        def emit_Elu(self, node: Any, in_scope: bool = False) -> str:
            return f"{node.variable_name} = layers.ELU(name='{node.name}')({self.parent_variable_name(node)})"

        def emit_Rescaling(self, node: Any, in_scope: bool = False) -> str:
            scale, offset = (v[0] if len(set(v)) == 1 else v for v in scaling_of(node))
            return (
                f"{node.variable_name} = layers.Rescaling({scale!r}, offset={offset!r}, "
                f"name='{node.name}')({self.parent_variable_name(node)})"
            )

        def emit_Gelu(self, node: Any, in_scope: bool = False) -> str:
            return (
                f"{node.variable_name} = layers.Activation('gelu', "
                f"name='{node.name}')({self.parent_variable_name(node)})"
            )

        def emit_Pad(self, node: Any, in_scope: bool = False) -> str:
            pads, source = node.get_attr("pads"), self.parent_variable_name(node)
            if not (pads[3] or pads[7]):
                text: str = super().emit_Pad(node)
                return text
            if any((pads[1], pads[2], pads[5], pads[6])):
                raise UsageError(
                    f"layer {self.source.names.get(node.name, node.name)!r} pads channels and places at "
                    f"once; Keras cannot"
                )
            # Keras pads the two middle axes
            turned = f"layers.Permute((3, 2, 1), name='{node.name}_turned')({source})"
            padded = (
                f"layers.ZeroPadding2D((({pads[3]}, {pads[7]}), (0, 0)), name='{node.name}_padded')({turned})"
            )
            return f"{node.variable_name} = layers.Permute((3, 2, 1), name='{node.name}')({padded})"

        def emit_Relu6(self, node: Any, in_scope: bool = False) -> str:
            return (
                f"{node.variable_name} = layers.ReLU(6.0, "
                f"name='{node.name}')({self.parent_variable_name(node)})"
            )

    return Emitter


def _imported() -> Any:
    """MMdnn's emitter; its extra_layers ask for keras.engine, which is there only while they are imported."""
    import keras

    fake = ModuleType("keras.engine")
    fake.Layer, fake.InputSpec = keras.layers.Layer, keras.layers.InputSpec  # type: ignore[attr-defined]
    before = sys.modules.get("keras.engine")
    sys.modules["keras.engine"] = fake
    try:
        with quiet():
            from mmdnn.conversion.keras.keras2_emitter import Keras2Emitter
    finally:
        if before is None:
            del sys.modules["keras.engine"]
        else:
            sys.modules["keras.engine"] = before
    return Keras2Emitter
