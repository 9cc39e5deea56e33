"""ONNX files as exporters write them: one small network, and what stands in its way to onnx2torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

BATCH = "N"
_R = np.random.default_rng(0)
WEIGHTS = {
    "w1": _R.standard_normal((3, 1, 3, 3)),
    "b1": _R.standard_normal(3),
    "w2": _R.standard_normal((108, 5)) / 4,
    "b2": _R.standard_normal(5),
    "zero": np.array(0),
    "zeros": np.array([0]),
    "rest": np.array([-1]),
}
Node = tuple[Any, ...]  # operation, inputs, output, attributes
CONVOLUTION: list[Node] = [("Conv", "x w1 b1", "c"), ("Relu", "c", "r")]
FLAT: list[Node] = [("Flatten", "r", "f")]
DENSE: list[Node] = [("Gemm", "f w2 b2", "y")]
COMPUTED: list[Node] = [
    ("Shape", "r", "s"),
    ("Gather", "s zero", "n"),
    ("Unsqueeze", "n zeros", "nn"),
    ("Concat", "nn rest", "to", {"axis": 0}),
    ("Reshape", "r to", "f", {"allowzero": 1}),
]


def file(
    folder: Path,
    nodes: list[Node],
    taken: tuple[Any, ...] = (BATCH, 1, 8, 8),
    outputs: str = "y",
    apart: bool = False,
) -> Path:
    """An ONNX file of these nodes over WEIGHTS; `outputs` are N x 5; `apart`: its numbers stand in
    a file beside it.
    """
    import onnx

    made = [
        onnx.helper.make_node(kind, read.split(), [out], **(dict(*more))) for kind, read, out, *more in nodes
    ]
    used = {i for n in made for i in n.input}
    held = {k: v if v.dtype == np.int64 else v.astype("f") for k, v in WEIGHTS.items() if k in used}
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in held.items()]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [taken[0], 5]) for name in outputs.split()]
    graph = onnx.helper.make_graph(
        made, "g", [onnx.helper.make_tensor_value_info("x", 1, list(taken))], ends, tensors
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "net.onnx"
    beside = (
        {"save_as_external_data": True, "location": "net.onnx.data", "size_threshold": 0} if apart else {}
    )
    onnx.save_model(model, path, **beside)
    return path


NETWORK = [*CONVOLUTION, *FLAT, *DENSE]
PRODUCT: list[Node] = [("MatMul", "f w2", "m"), ("Add", "m b2", "y")]
VECTOR: list[Node] = [("MatMul", "x w2", "m"), ("Add", "m b2", "y")]
TURNED: list[Node] = [
    ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
    ("Conv", "t w1 b1", "c"),
    ("Relu", "c", "r"),
]
KINDS: dict[str, Callable[[Path], Path]] = {
    "nodes in any order": partial(file, nodes=[*DENSE, *FLAT, *CONVOLUTION[::-1]]),
    "several outputs": partial(file, nodes=[*NETWORK, ("Softmax", "y", "p")], outputs="p y"),
    "ends in LogSoftmax": partial(file, nodes=[*NETWORK, ("LogSoftmax", "y", "l")], outputs="l"),
    "flattened to a computed size (torch's dynamic batch)": partial(
        file, nodes=[*CONVOLUTION, *COMPUTED, *DENSE]
    ),
    "a batch of 1": partial(file, nodes=NETWORK, taken=(1, 1, 8, 8)),
    "MatMul and Add for a dense layer": partial(file, nodes=[*CONVOLUTION, *FLAT, *PRODUCT]),
    "channels last": partial(file, nodes=[*TURNED, *FLAT, *DENSE], taken=(BATCH, 8, 8, 1)),
    "flat vectors": partial(file, nodes=VECTOR, taken=(BATCH, 108)),
    "images without channels": partial(file, nodes=[("Flatten", "x", "f"), *PRODUCT], taken=(BATCH, 12, 9)),
    "numbers in a file beside the model": partial(file, nodes=NETWORK, apart=True),
}
