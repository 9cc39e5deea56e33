"""MMdnn IR -> torch, by MMdnn's PytorchEmitter, with its published wrong answers put right
(docs/formats.md, shim G).

Every layer becomes a torch module named after its IR node (n0, n1, ...), so that hooks and
isinstance walks find it; flattening keeps MMdnn's order, so that weights and IR differ by a
transposition only. The emitted class is traced into a torch.fx.GraphModule, which pickles.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from airepair.errors import UsageError, one_line
from airepair.formats import extra_layers
from airepair.formats.mmdnn.ir import Array, IRModel, graph_pb2, quiet

OPERATIONS = frozenset(
    (
        *(
            "DataInput",
            "Conv",
            "DepthwiseConv",
            "FullyConnected",
            "BatchNorm",
            "Pool",
            "Flatten",
            "Reshape",
            "ReduceMean",
            "Dropout",
            "Pad",
        ),
        *(
            "Relu",
            "Relu6",
            "LeakyRelu",
            "Elu",
            "Gelu",
            "Tanh",
            "Sigmoid",
            "Softmax",
            "Add",
            "Sub",
            "Mul",
            "Concat",
        ),
    )
)


def to_torch(model: IRModel) -> fx.GraphModule:
    """Returns the network (nodes already renamed) as a torch module in eval mode.

    UsageError that names the layer where it cannot be expressed.
    """
    for node in model.graph.node:
        if node.op not in OPERATIONS:
            raise UsageError(
                f"layer {model.names.get(node.name, node.name)!r} ({node.op}) has no counterpart in the "
                f"conversion to torch"
            )
    emitter = _emitter_class()(model)
    with quiet() as said:
        try:
            code = emitter.gen_code("test")
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"MMdnn cannot emit the network: {one_line(error, 120)} "
                f"{said.getvalue()[-100:].partition(' ')[2].strip()}"
            ) from error
    scope: dict[str, Any] = {
        "nn": nn,
        "torch": torch,
        "F": nn.functional,
        "np": np,
        "layers": extra_layers,
        "load_weights": lambda _: emitter.weights_dict,
    }
    exec(
        compile(code, "<mmdnn>", "exec"), scope
    )  # its names are n0, n1, ...: no text of the user's file is in it
    kit = scope["KitModel"](None)
    for name, arrays in model.weights.items():
        if "mean" in arrays:
            _fixed_affine(getattr(kit, name), arrays)
    return fx.GraphModule(kit, _Tracer().trace(kit)).eval()


def kinds(model: IRModel) -> dict[str, tuple[str, str]]:
    """Maps each state-dict key of the torch module to its (IR node, kind of weight)."""
    batch_norm = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    found = {}
    for name, arrays in model.weights.items():
        renaming = batch_norm if "mean" in arrays else {"weights": "weight", "bias": "bias"}
        found.update({f"{name}.{renaming[kind]}": (name, kind) for kind in arrays})
    return found


def arrays_of(module: nn.Module, model: IRModel) -> dict[str, dict[str, Array]]:
    """Returns the module's weights in the layout of the IR; the inverse of what the emitter did.

    UsageError if the IR has no place for a change.
    """
    state = module.state_dict()
    known = kinds(model)
    for key, tensor in state.items():
        if key not in known and not key.endswith("num_batches_tracked") and not _neutral(key, tensor):
            node = key.rpartition(".")[0]
            raise UsageError(
                f"the repair changed {key}, for which layer {model.names.get(node, node)!r} of the file "
                f"has no weight"
            )
    found: dict[str, dict[str, Array]] = {}
    for key, (node, kind) in known.items():
        array = state[key].detach().cpu().numpy()
        old = model.weights[node][kind]
        if array.ndim == 4 and model.node(node).op == "DepthwiseConv":
            array = array.reshape(old.shape[2], old.shape[3], *array.shape[2:]).transpose(2, 3, 0, 1)
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
        found.setdefault(node, {})[kind] = np.ascontiguousarray(array.reshape(old.shape)).astype(old.dtype)
    return found


def _neutral(key: str, tensor: torch.Tensor) -> bool:
    return bool((tensor == (1 if key.endswith("weight") else 0)).all())


def _fixed_affine(norm: nn.Module, arrays: dict[str, Array]) -> None:
    """A batch norm without scale or centre keeps a constant there, not a parameter: it must not
    learn what the file cannot hold.
    """
    for kind, name, value in (("scale", "weight", 1.0), ("bias", "bias", 0.0)):
        if kind not in arrays:
            shape = arrays["mean"].shape
            delattr(norm, name)
            norm.register_buffer(name, torch.full(shape, value))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__ == extra_layers.__name__ or super().is_leaf_module(m, module_qualified_name)


def _emitter_class() -> Any:
    graph_pb2()
    with quiet():
        from mmdnn.conversion.pytorch.pytorch_emitter import PytorchEmitter

    class Emitter(PytorchEmitter):  # type: ignore[misc]
        """MMdnn's emitter with weights from memory, modules instead of functions, and the
        corrections of shim G.
        """

        header_code = "class KitModel(nn.Module):\n"

        def __init__(self, model: IRModel) -> None:
            self.source = model
            with tempfile.TemporaryDirectory() as folder, quiet():
                path = Path(folder) / "graph.pb"
                path.write_bytes(model.graph.SerializeToString())
                super().__init__((str(path), {k: dict(v) for k, v in model.weights.items()}))

        def _load_weights(self, weights: Any = None) -> None:
            self.weights_dict, self.weight_loaded = weights, True

        def layer(self, node: Any, text: str, source: str | None = None, suffix: str = "") -> str:
            """A line that builds a module and, returned, a line that calls it."""
            name = node.variable_name + suffix
            self.add_init(2, f"self.{name} = {text}")
            return f"{name} = self.{name}({source or self.parent_variable_name(node)})"

        def refuse(self, node: Any, why: str) -> UsageError:
            return UsageError(
                f"layer {self.source.names.get(node.name, node.name)!r} ({node.type}) cannot be "
                f"converted: {why}"
            )

        def padded(self, node: Any, value: float) -> tuple[tuple[int, int], str]:
            """Symmetric padding for the layer itself, or a padding module before it; (h, w) and the
            variable to read.
            """
            source = self.parent_variable_name(node)
            pads = [] if node.get_attr("auto_pad") == "VALID" else node.get_attr("pads") or []
            if not any(pads):
                return (0, 0), source
            top, left, bottom, right = pads[1], pads[2], pads[5], pads[6]
            kernel = node.get_attr("kernel_shape")
            size = kernel[1:3] if node.type == "Pool" else kernel[:2]
            if (top, left) == (bottom, right) and 2 * top <= size[0] and 2 * left <= size[1]:
                return (top, left), source
            number = "float('-inf')" if value else "0.0"
            self.add_body(
                2,
                self.layer(
                    node, f"nn.ConstantPad2d(({left}, {right}, {top}, {bottom}), {number})", suffix="_pad"
                ),
            )
            return (0, 0), node.variable_name + "_pad"

        def emit_Conv(self, node: Any) -> str:
            self.used_layers.add("Conv")
            kernel = self.weights_dict[node.name]["weights"]
            if kernel.ndim != 4:
                raise self.refuse(node, f"its kernel has {kernel.ndim} dimensions")
            height, width, inner, outer = kernel.shape
            stride = tuple(node.get_attr("strides")[1:3])
            dilation = tuple((node.get_attr("dilations") or [1, 1, 1, 1])[1:3])
            group = node.get_attr("group", 1) or 1
            if node.type == "DepthwiseConv":
                group, incoming, outer = inner, inner, inner * outer
                turned = kernel.transpose(2, 3, 0, 1).reshape(outer, 1, height, width)
            else:
                incoming = inner * group
                turned = kernel.transpose(3, 2, 0, 1)
            self.weights_dict[node.name]["weights"] = np.ascontiguousarray(turned)
            padding, source = self.padded(node, 0.0)
            bias = "bias" in self.weights_dict[node.name]
            text = (
                f"in_channels={incoming}, out_channels={outer}, kernel_size={(height, width)}, "
                f"stride={stride}, padding={padding}"
            )
            return self.layer(
                node,
                f"self.__conv(2, name='{node.name}', {text}, dilation={dilation}, groups={group}, "
                f"bias={bias})",
                source,
            )

        emit_DepthwiseConv = emit_Conv

        def emit_FullyConnected(self, node: Any) -> str:
            self.used_layers.add("FullyConnected")
            weights = self.weights_dict[node.name]["weights"]
            incoming, outgoing = weights.shape
            self.weights_dict[node.name]["weights"] = np.ascontiguousarray(weights.T)
            source = self.parent_variable_name(node)
            before = self.IR_graph.get_parent(node.name, [0])
            shapes = before.get_attr("_output_shapes")
            if shapes and len(shapes[0].dim) > 2:
                self.add_body(2, self.layer(node, "layers.ChannelsLastFlatten()", suffix="_flatten"))
                source = node.variable_name + "_flatten"
            bias = "bias" in self.weights_dict[node.name]
            text = (
                f"self.__dense(name='{node.name}', in_features={incoming}, out_features={outgoing}, "
                f"bias={bias})"
            )
            return self.layer(node, text, source)

        def emit_BatchNorm(self, node: Any) -> str:
            self.used_layers.add("BatchNorm")
            dim = len(node.layer.attr["_output_shapes"].list.shape[0].dim) - 2
            features = len(self.weights_dict[node.name]["mean"])
            eps, momentum = float(node.layer.attr["epsilon"].f), self.source.momentum.get(node.name, 0.1)
            text = (
                f"self.__batch_normalization({dim}, '{node.name}', num_features={features}, "
                f"eps={eps!r}, momentum={momentum!r})"
            )
            return self.layer(node, text)

        def emit_Pool(self, node: Any) -> str:
            kind = {"MAX": "Max", "AVG": "Avg"}[node.get_attr("pooling_type")]
            if node.layer.attr["global_pooling"].b:
                return self.layer(node, f"nn.Adaptive{kind}Pool2d(1)")
            kernel, stride = tuple(node.get_attr("kernel_shape")[1:3]), tuple(node.get_attr("strides")[1:3])
            if any(d != 1 for d in node.get_attr("dilations") or []):
                raise self.refuse(node, "dilated pooling")
            pads = [] if node.get_attr("auto_pad") == "VALID" else node.get_attr("pads") or []
            if kind == "Avg" and any(pads):
                return self.layer(
                    node, f"layers.SamePadAverage({kernel}, {stride}, {(pads[2], pads[6], pads[1], pads[5])})"
                )
            padding, source = self.padded(node, 1.0)
            extra = f", padding={padding}" if any(padding) else ""
            return self.layer(node, f"nn.{kind}Pool2d({kernel}, {stride}{extra})", source)

        def emit_Flatten(self, node: Any) -> str:
            return self.layer(node, "layers.ChannelsLastFlatten()")

        def emit_Reshape(self, node: Any) -> str:
            return self.layer(
                node, f"layers.ChannelsLastReshape({tuple(int(n) for n in node.get_attr('shape')[1:])})"
            )

        def emit_Dropout(self, node: Any) -> str:
            # MMdnn's attribute is called keep_prob; its torch and Keras parsers put the share that
            # is dropped there
            kind = "Dropout2d" if node.layer.attr["channelwise"].b else "Dropout"
            return self.layer(node, f"nn.{kind}({round(float(node.layer.attr['keep_prob'].f), 6)!r})")

        def emit_Pad(self, node: Any) -> str:
            pads = node.get_attr("pads")
            if (node.get_attr("mode") or "constant").lower() != "constant" or pads[0] or pads[4]:
                raise self.refuse(node, "only padding with zeros, and not of the batch")
            if pads[3] or pads[7]:  # of N x C x H x W it pads the last three axes, the channels among them
                return self.layer(
                    node, f"nn.ConstantPad3d({(pads[2], pads[6], pads[1], pads[5], pads[3], pads[7])}, 0.0)"
                )
            return self.layer(node, f"nn.ZeroPad2d({(pads[2], pads[6], pads[1], pads[5])})")

        def emit_ReduceMean(self, node: Any) -> str:
            if sorted(node.get_attr("axes")) != [1, 2]:
                raise self.refuse(node, "a mean over other axes than height and width")
            pooled = self.layer(node, "nn.AdaptiveAvgPool2d(1)", suffix="_pool")
            if node.layer.attr["keepdims"].b:
                return f"{pooled}\n        {node.variable_name} = {node.variable_name}_pool"
            self.add_body(2, pooled)
            return self.layer(node, "layers.ChannelsLastFlatten()", node.variable_name + "_pool")

        def emit_Relu(self, node: Any) -> str:
            return self.layer(node, "nn.ReLU()")

        def emit_Relu6(self, node: Any) -> str:
            return self.layer(node, "nn.ReLU6()")

        def emit_Gelu(self, node: Any) -> str:
            return self.layer(node, "nn.GELU()")

        def emit_Tanh(self, node: Any) -> str:
            return self.layer(node, "nn.Tanh()")

        def emit_Sigmoid(self, node: Any) -> str:
            return self.layer(node, "nn.Sigmoid()")

        def emit_Softmax(self, node: Any) -> str:
            return self.layer(node, "nn.Softmax(1)")

        def emit_LeakyRelu(self, node: Any) -> str:
            return self.layer(node, f"nn.LeakyReLU({round(float(node.layer.attr['alpha'].f), 7)!r})")

        def emit_Elu(self, node: Any) -> str:
            return self.layer(node, f"nn.ELU({round(float(node.layer.attr['alpha'].f), 7)!r})")

        def emit_Add(self, node: Any) -> str:
            if len(node.layer.input) != len(node.in_edges):
                raise self.refuse(node, "one input is read twice")
            terms = (self.parent_variable_name(node, [i]) for i in range(len(node.in_edges)))
            return f"{node.variable_name} = {' + '.join(terms)}"

    return Emitter
