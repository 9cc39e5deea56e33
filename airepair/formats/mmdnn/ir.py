"""MMdnn's intermediate representation, the hub of every conversion, on today's protobuf and without
its pickled weight files.

MMdnn's graph_pb2.py is code of a protobuf compiler of 2017 that no protobuf since 4 can import. Its
schema is fine: it is taken out of that file and given to the installed protobuf (docs/formats.md,
shim A). Nothing in MMdnn's package is changed.

Layouts are MMdnn's: kernels H x W x in x out, dense in x out, activations N x H x W x C, flattened
in that order.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from airepair.errors import UsageError
from airepair.models.layouts import Shape

Array = np.ndarray[Any, Any]
_HEADS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}  # operation of the graph -> what it makes of logits
_GRAPH_PB2 = "mmdnn.conversion.common.IR.graph_pb2"


def graph_pb2() -> ModuleType:
    """Returns MMdnn's message classes (GraphDef, NodeDef, ...), put where MMdnn's own modules
    import them from.

    ModuleNotFoundError without MMdnn.
    """
    if _GRAPH_PB2 in sys.modules:
        return sys.modules[_GRAPH_PB2]
    spec = importlib.util.find_spec("mmdnn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'mmdnn'", name="mmdnn")
    from google.protobuf import descriptor_pool, message_factory

    if not hasattr(
        message_factory, "GetMessageClass"
    ):  # protobuf 3, of the pinned environment of an older TensorFlow, can import that code
        return importlib.import_module(_GRAPH_PB2)
    source = Path(spec.submodule_search_locations[0]) / "conversion/common/IR/graph_pb2.py"
    pool = (
        descriptor_pool.DescriptorPool()
    )  # its messages have no package: in the shared pool they would meet TensorFlow's or ONNX's
    file = pool.AddSerializedFile(_schema(source.read_text("utf-8")))
    module = ModuleType(_GRAPH_PB2)
    descriptor = pool.FindFileByName("graph.proto") if file is None else file
    for name, message in descriptor.message_types_by_name.items():
        setattr(module, name, message_factory.GetMessageClass(message))
    for name, enum in descriptor.enum_types_by_name.items():
        setattr(module, name, enum)
        for value in enum.values:
            setattr(module, value.name, value.number)
    package = importlib.import_module(_GRAPH_PB2.rpartition(".")[0])
    sys.modules[_GRAPH_PB2] = package.graph_pb2 = module  # type: ignore[attr-defined]
    return module


def _schema(text: str) -> bytes:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb" and isinstance(node.value, ast.Call):
            value = ast.literal_eval(node.value.args[0])
            return value.encode("latin1") if isinstance(value, str) else bytes(value)
    raise UsageError(
        "the installed mmdnn has no readable schema; mmdnn==0.3.1 is the version that is known to work"
    )


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """MMdnn reports by print: collected here, so that an error can quote it and nobody else reads it."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        yield out


@dataclass(frozen=True, eq=False)
class IRModel:
    """It is a network in MMdnn's representation.

    graph     MMdnn's GraphDef
    weights   node -> kind ("weights", "bias", "scale", "mean", "var") -> array
    names     node -> the layer's name in the user's file
    momentum  batch-norm node -> torch's momentum (MMdnn's graph does not keep it)
    """

    graph: Any
    weights: dict[str, dict[str, Array]]
    names: dict[str, str] = field(default_factory=dict)
    momentum: dict[str, float] = field(default_factory=dict)

    def node(self, name: str) -> Any:
        """Returns the node of that name."""
        return next(n for n in self.graph.node if n.name == name)

    def _dims(self) -> list[int]:
        inputs = [n for n in self.graph.node if n.op == "DataInput"]
        if len(inputs) != 1:
            raise UsageError(f"the network has {len(inputs)} inputs; one image input was expected")
        return [d.size for d in inputs[0].attr["shape"].shape.dim]

    @property
    def input_shape(self) -> Shape:
        """Returns one input as the torch network takes it: C, H, W of an image, or the file's axes
        where it has none of channels (28 x 28, 784).

        UsageError for unknown sizes, and for what no image can be laid out as.
        """
        return torch_shape(self._dims()[1:])


def torch_shape(dims: Sequence[int]) -> Shape:
    """Returns the axes of one input of a channels-last format as torch has them; UsageError if
    they hold no image of known size.
    """
    if not 1 <= len(dims) <= 3 or min(dims) < 1 or max(dims) > (4096 if len(dims) == 3 else 1 << 20):
        taken = " x ".join(["N", *("?" if d < 1 else str(d) for d in dims)])
        raise UsageError(
            f"the network's input has shape {taken}; accepted: N x H x W x C, N x H x W or N x features, "
            f"all but N of known size"
        )
    return (dims[2], dims[0], dims[1]) if len(dims) == 3 else tuple(dims)


def channels_last(inputs: Array) -> Array:
    """Returns N x C x H x W as N x H x W x C; inputs without channels as they are."""
    return inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs


def renamed(model: IRModel) -> IRModel:
    """Returns the same network with nodes n0, n1, ...: names of a foreign file never reach MMdnn's
    emitters, whose output is executed as code.
    """
    new = {node.name: f"n{i}" for i, node in enumerate(model.graph.node)}
    if len(new) != len(model.graph.node):
        raise UsageError("two layers of the file share a name; MMdnn cannot tell them apart")
    graph = type(model.graph)()
    graph.CopyFrom(model.graph)
    for node in graph.node:
        node.name = new[node.name]
        inputs = [new[i.split(":")[0]] for i in node.input]
        del node.input[:]
        node.input.extend(inputs)
    return IRModel(
        graph,
        {new[k]: v for k, v in model.weights.items() if k in new},
        {new[k]: model.names.get(k, k) for k in new},
        {new[k]: v for k, v in model.momentum.items() if k in new},
    )


def without_head(model: IRModel) -> tuple[IRModel, str]:
    """Returns the network cut before a final softmax or log-softmax, since repair methods work on
    logits, and which it was.

    "" for none (see airepair/formats/heads.py).
    """
    used = {i for node in model.graph.node for i in node.input}
    last = [node for node in model.graph.node if node.name not in used]
    head = _HEADS.get(last[0].op, "") if len(last) == 1 else ""
    if not head:
        return model, ""
    graph = type(model.graph)()
    graph.node.extend(node for node in model.graph.node if node.name != last[0].name)
    return replace(model, graph=graph), head


def without_nodes(model: IRModel, gone: set[str]) -> IRModel:
    """Returns the network without some one-input nodes (scaling layers): who read them reads what
    they read.
    """
    source = {node.name: node.input[0] for node in model.graph.node if node.name in gone}
    graph = type(model.graph)()
    for node in model.graph.node:
        if node.name in gone:
            continue
        kept = graph.node.add()
        kept.CopyFrom(node)
        inputs = []
        for name in node.input:
            while name in source:
                name = source[name]
            inputs.append(name)
        del kept.input[:]
        kept.input.extend(inputs)
    return replace(model, graph=graph)


def with_scaling(model: IRModel, scale: tuple[float, ...], offset: tuple[float, ...]) -> IRModel:
    """Returns the network (nodes already renamed) behind a node "scaling" that turns x into scale *
    x + offset, channel by channel.
    """
    channels = model._dims()[-1]
    graph = type(model.graph)()
    for node in model.graph.node:
        kept = graph.node.add()
        kept.CopyFrom(node)
        if node.op == "DataInput":
            made = graph.node.add()
            made.name, made.op = "scaling", "Rescaling"
            made.input.append(node.name)
            made.attr["_output_shapes"].CopyFrom(
                node.attr["_output_shapes"] if "_output_shapes" in node.attr else node.attr["shape"]
            )
            for key, values in (("scale", scale), ("offset", offset)):
                made.attr[key].list.f.extend(values if len(values) == channels else values * channels)
            source = node.name
    for node in graph.node:
        if node.name != "scaling" and source in node.input:
            inputs = ["scaling" if i == source else i for i in node.input]
            del node.input[:]
            node.input.extend(inputs)
    return replace(model, graph=graph, names={**model.names, "scaling": "scaling"})


def scaling_of(node: Any) -> tuple[list[float], list[float]]:
    """Returns the scale and offset of a "Rescaling" node of `with_scaling`, without the noise of
    float32.
    """
    return tuple([float(f"{v:.7g}") for v in node.layer.attr[key].list.f] for key in ("scale", "offset"))  # type: ignore[return-value]


def elements(model: IRModel) -> int:
    """How many numbers the weights have, running statistics included."""
    return sum(int(a.size) for kinds in model.weights.values() for a in kinds.values())
