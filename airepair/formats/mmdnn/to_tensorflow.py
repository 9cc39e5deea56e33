"""MMdnn IR -> frozen graph or SavedModel, by MMdnn's TensorflowEmitter (docs/formats.md, shim C). Runs
in the worker.

The emitter writes TF1 code. It is executed with `tf` bound to a namespace that has what that code
asks for: compat.v1, and the two things that TensorFlow has dropped (contrib.layers.flatten,
layers.dense). Node names are n0, n1, ..., so no text of a foreign file is executed.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from airepair.errors import UsageError, one_line
from airepair.formats.mmdnn.ir import IRModel, elements, graph_pb2, quiet, scaling_of


def to_tensorflow(model: IRModel, out: Path, kind: str) -> None:
    """Writes the network (nodes already renamed) as kind "frozen-pb" or "savedmodel"."""
    v1 = tf.compat.v1
    code, weights = _code(model)
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        scope: dict[str, Any] = {
            "tf": _namespace(tf),
            "load_weights": lambda _: weights,
            "is_train": False,
            "_weights_dict": weights,
        }
        try:
            exec(compile(code, "<mmdnn>", "exec"), scope)
            source, target = scope["KitModel"](None)
        except Exception as error:
            raise UsageError(f"MMdnn's TensorFlow code does not run: {one_line(error, 160)}") from error
        target = v1.identity(target, name="logits")
        made = sum(int(v.shape.num_elements()) for v in v1.global_variables())
        if made != elements(model):
            raise UsageError(
                f"the TensorFlow network has {made} numbers in its weights, the original {elements(model)}"
            )
        session.run(v1.global_variables_initializer())
        if kind == "savedmodel":
            v1.saved_model.simple_save(session, str(out), {"images": source}, {"logits": target})
        else:
            frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["logits"])
            out.write_bytes(frozen.SerializeToString())


def _code(model: IRModel) -> tuple[str, Any]:
    graph_pb2()
    with quiet():
        from mmdnn.conversion.tensorflow.tensorflow_emitter import TensorflowEmitter

    class Emitter(TensorflowEmitter):  # type: ignore[misc]
        """MMdnn's emitter with weights from memory."""

        header_code = "def KitModel(weight_file=None):"

        def _load_weights(self, weights: Any = None) -> None:
            self.weights_dict, self.weight_loaded = weights, True

        def emit_UNKNOWN(self, node: Any) -> None:
            raise UsageError(
                f"layer {model.names.get(node.name, node.name)!r} ({node.type}) cannot be written as "
                f"TensorFlow"
            )

        def emit_Conv(
            self, node: Any
        ) -> str:  # the original splits a grouped convolution into many; TensorFlow has them by now
            node.layer.attr["group"].i = 1
            text: str = super().emit_Conv(node)
            dilation = list(node.get_attr("dilations") or [])[1:3]
            return (
                text
                if not dilation or max(dilation) == 1
                else text.replace("strides=", f"dilations={dilation}, strides=")
            )

        def emit_Rescaling(self, node: Any) -> str:
            scale, offset = scaling_of(node)
            source = self.parent_variable_name(node)
            return (
                f"{node.variable_name} = tf.add(tf.multiply({source}, tf.constant({scale})), "
                f"tf.constant({offset}), name='{node.name}')"
            )

        def emit_Gelu(self, node: Any) -> str:
            x = self.parent_variable_name(node)
            return (
                f"{node.variable_name} = tf.multiply(0.5 * {x}, 1 + tf.erf({x} / {math.sqrt(2)!r}), "
                f"name='{node.name}')"
            )

        def emit_LeakyRelu(self, node: Any) -> str:  # the original adds the line and returns nothing
            alpha = node.get_attr("alpha")
            return (
                f"{node.variable_name} = tf.nn.leaky_relu({self.parent_variable_name(node)}, "
                f"alpha={alpha}, name='{node.name}')"
            )

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "graph.pb"
        path.write_bytes(model.graph.SerializeToString())
        emitter = Emitter((str(path), {k: dict(v) for k, v in model.weights.items()}))
        try:
            return emitter.gen_code("test"), emitter.weights_dict
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"MMdnn cannot emit the network as TensorFlow: {one_line(error, 160)}"
            ) from error


def _namespace(tf: Any) -> Any:
    v1 = tf.compat.v1
    made = SimpleNamespace(
        **{k: getattr(v1, k) for k in dir(v1) if not k.startswith("__") and k not in ("layers", "contrib")}
    )
    number = iter(range(1_000_000))

    def flatten(x: Any) -> Any:
        if x.shape.rank == 2:
            return x
        length = 1
        for n in x.shape[1:]:
            length *= int(n)
        return v1.reshape(x, [-1, length])

    def dense(
        x: Any,
        units: int,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        use_bias: bool = True,
    ) -> Any:
        name = f"dense_{next(number)}"
        kernel = v1.get_variable(f"{name}_kernel", [int(x.shape[-1]), units], initializer=kernel_initializer)
        y = v1.matmul(x, kernel)
        return (
            v1.nn.bias_add(y, v1.get_variable(f"{name}_bias", [units], initializer=bias_initializer))
            if use_bias
            else y
        )

    made.contrib = SimpleNamespace(layers=SimpleNamespace(flatten=flatten))
    made.layers = SimpleNamespace(dense=dense)
    return made
