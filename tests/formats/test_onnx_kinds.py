"""ONNX files as other exporters write them: each kind is read, repaired, and comes back in the same graph."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from airepair.errors import UsageError
from airepair.formats import open_model
from airepair.formats.model_file import ModelFile

onnx = pytest.importorskip("onnx")
if importlib.util.find_spec("onnx2torch") is None:
    pytest.skip("onnx2torch is not installed (pip install 'airepair[onnx]')", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

RNG = np.random.default_rng(0)
W = {
    "w1": RNG.standard_normal((3, 1, 3, 3)),
    "b1": RNG.standard_normal(3),
    "w2": RNG.standard_normal((108, 5)) / 4,
    "b2": RNG.standard_normal(5),
}


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs.split(), output.split(), **attributes)


CONVOLUTION = [node("Conv", "x w1 b1", "c"), node("Relu", "c", "r")]
FLAT = [node("Flatten", "r", "f")]
DENSE = [node("Gemm", "f w2 b2", "y")]


def model(
    nodes: list[Any],
    taken: tuple[Any, ...] = ("N", 1, 8, 8),
    outputs: str = "y",
    opset: int = 17,
    **weights: Any,
) -> Any:
    """An ONNX model of these nodes; `outputs` are names of N x 5 values, or name:n of N x n ones;
    weights are W's and those given.
    """
    tensors = [
        onnx.numpy_helper.from_array(v if v.dtype == np.int64 else v.astype("f"), k)
        for k, v in (W | weights).items()
        if v is not None
    ]
    read = {i for n in nodes for i in n.input}
    taken_in = onnx.helper.make_tensor_value_info("x", 1, list(taken))
    sizes = [(name, int(n or 5)) for name, _, n in (o.partition(":") for o in outputs.split())]
    given = [onnx.helper.make_tensor_value_info(name, 1, [taken[0], n]) for name, n in sizes]
    graph = onnx.helper.make_graph(nodes, "g", [taken_in], given, [t for t in tensors if t.name in read])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)


def walked(found: Any, folder: Path, **options: Any) -> ModelFile:
    """The model, opened, changed everywhere, and written back: same nodes, same names, faithful;
    every weight of the file has changed.
    """
    (folder / "in.onnx").write_bytes(found.SerializeToString())
    opened = open_model(folder / "in.onnx", outputs=5, **options)
    assert opened.fidelity is not None
    assert opened.fidelity.faithful
    with torch.no_grad():
        for p in opened.module.parameters():
            p.mul_(1.1)
    fidelity = opened.write(opened.module, folder / "out.onnx")
    assert fidelity is not None
    assert fidelity.faithful
    after = onnx.load(folder / "out.onnx")
    assert [(n.op_type, n.input, n.output, n.domain) for n in after.graph.node] == [
        (n.op_type, n.input, n.output, n.domain) for n in found.graph.node
    ]
    assert [o.name for o in after.graph.output] == [o.name for o in found.graph.output]
    return opened


def linears(opened: ModelFile) -> int:
    return sum(isinstance(m, nn.Linear) for m in opened.module.modules())


def test_nodes_need_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """keras2onnx writes the last node first; onnxruntime takes it, and onnx's own evaluator where
    that is not installed.
    """
    walked(model([*DENSE, *FLAT, *CONVOLUTION[::-1]]), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert open_model(tmp_path / "in.onnx").fidelity.n == 16


@pytest.mark.parametrize(
    ("tail", "outputs", "network"),
    [
        ([node("ReduceMean", "r", "m", axes=[2, 3], keepdims=0)], "m:3 y", "y"),
        ([node("Softmax", "y", "p")], "p y", "y"),
        ([node("Softmax", "y", "p"), node("LogSoftmax", "y", "l")], "p l", "p"),
        ([node("ArgMax", "y", "k", axis=1, keepdims=0), node("Softmax", "y", "p")], "k p", "p"),
    ],
)
def test_the_output_of_classes_is_taken(tmp_path: Path, tail: list[Any], outputs: str, network: str) -> None:
    """Of features and logits, probabilities and logits, labels and probabilities: the file keeps
    them all, the record says which it was.
    """
    found = model([*CONVOLUTION, *FLAT, *DENSE, *tail], outputs=outputs)
    if outputs.startswith("k"):
        found.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
        found.graph.output[0].type.tensor_type.ClearField("shape")
    opened = walked(found, tmp_path)
    assert isinstance(list(opened.module.children())[-1], nn.Linear)
    names = ", ".join(o.name for o in found.graph.output)
    assert f"of its outputs {names} the network's is {network}; the others stay in the file" in opened.notes


def test_outputs_that_leave_a_choice_are_the_trouble(tmp_path: Path) -> None:
    """Two heads of as many classes, or none: the line lists the outputs."""
    two = [*CONVOLUTION, *FLAT, *DENSE, node("Gemm", "f w3", "z")]
    for outputs, why in (("y z", "several of N x 5"), ("f:108 r", "none of N x 5")):
        found = model(two, outputs=outputs, w3=RNG.standard_normal((108, 5)))
        (tmp_path / "in.onnx").write_bytes(found.SerializeToString())
        with pytest.raises(
            UsageError, match=rf"has outputs {outputs[0]} \(N x .*{why}; accepted: one output of N x 5"
        ):
            open_model(tmp_path / "in.onnx", outputs=5)


FROM_SHAPE = [
    node("Shape", "r", "s"),
    node("Gather", "s zero", "n"),
    node("Unsqueeze", "n zeros", "nn"),
    node("Concat", "nn rest", "to", axis=0),
    node("Reshape", "r to", "f", allowzero=1),
]
SIZES = {
    "zero": np.array(0),
    "zeros": np.array([0]),
    "rest": np.array([-1]),
    "fixed": np.array([1, -1]),
    "told": np.array([-1, 108]),
}


@pytest.mark.parametrize(
    ("flat", "batch", "opset"),
    [
        (FROM_SHAPE, "N", 17),
        (FROM_SHAPE, "N", 20),
        ([node("Reshape", "r told", "f", allowzero=1)], "N", 20),
        ([node("Reshape", "r fixed", "f")], 1, 17),
        ([node("Flatten", "r", "f")], 4, 17),
    ],
    ids=["computed", "computed, opset 20", "allowzero", "batch of 1", "batch of 4"],
)
def test_flattening_of_any_kind_is_a_flatten_for_any_batch(
    tmp_path: Path, flat: list[Any], batch: Any, opset: int
) -> None:
    """Sizes that the graph computes (torch's dynamic batch), sizes in numbers, a batch that is
    fixed in the file and stays so there.
    """
    opened = walked(model([*CONVOLUTION, *flat, *DENSE], (batch, 1, 8, 8), opset=opset, **SIZES), tmp_path)
    assert [type(m) for m in opened.module.children() if not list(m.buffers())][2:] == [nn.Flatten, nn.Linear]
    assert opened.module(torch.zeros(7, 1, 8, 8)).shape == (7, 5)
    assert onnx.load(tmp_path / "out.onnx").graph.input == onnx.load(tmp_path / "in.onnx").graph.input


@pytest.mark.parametrize(
    ("dense", "biases"),
    [
        ([node("MatMul", "f w2", "m"), node("Add", "m b2", "y")], {}),
        ([node("MatMul", "f w2", "m"), node("Add", "b2 m", "y")], {"b2": W["b2"][None]}),
        ([node("MatMul", "f w2", "y")], {}),
        ([node("Gemm", "f w2 b2", "y")], {"b2": W["b2"][None]}),
    ],
    ids=["bias", "bias of 1 x K, on the left", "no bias", "Gemm with a bias of 1 x K"],
)
def test_a_matrix_product_and_a_sum_are_a_linear_layer(
    tmp_path: Path, dense: list[Any], biases: dict[str, Any]
) -> None:
    """Methods that change a dense layer directly find it."""
    opened = walked(model([*CONVOLUTION, *FLAT, *dense], **biases), tmp_path)
    (layer,) = (m for m in opened.module.modules() if isinstance(m, nn.Linear))
    assert (layer.in_features, layer.out_features, layer.bias is not None) == (
        108,
        5,
        any("b2" in n.input for n in dense),
    )


@pytest.mark.parametrize(
    ("tail", "head"),
    [
        ([node("Softmax", "y", "p"), node("Identity", "p", "q")], "softmax"),
        ([node("LogSoftmax", "y", "q")], "log-softmax"),
        ([node("Softmax", "y", "p"), node("Log", "p", "q")], "log-softmax"),
        ([node("Identity", "y", "q")], ""),
    ],
)
def test_what_stands_behind_the_logits_stays_in_the_file(tmp_path: Path, tail: list[Any], head: str) -> None:
    """The network answers with logits, whatever the file makes of them; a note says what."""
    opened = walked(model([*CONVOLUTION, *FLAT, *DENSE, *tail], outputs="q"), tmp_path)
    assert isinstance(list(opened.module.children())[-1], nn.Linear)
    assert [f"the final {head} stays in the file" in note for note in opened.notes].count(True) == bool(head)


def test_labels_for_an_answer_are_no_obstacle(tmp_path: Path) -> None:
    """A file that answers with arg-max is compared by what it takes the arg-max of."""
    found = model(
        [*CONVOLUTION, *FLAT, *DENSE, node("Softmax", "y", "p"), node("ArgMax", "p", "k", axis=1)],
        outputs="k:1",
    )
    found.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    assert linears(walked(found, tmp_path)) == 1


def test_a_file_of_channels_last_turns_its_images_itself(tmp_path: Path) -> None:
    """tf2onnx: the turn comes off like scaling, which may stand before it (along the last axis) or
    behind it; the file is fed as it wants.
    """
    first = [
        node("Mul", "x byte", "s"),
        node("Transpose", "s", "t", perm=[0, 3, 1, 2]),
        node("Sub", "t mean", "u"),
    ]
    convolution = [node("Conv", "u w1 b1", "c"), node("Relu", "c", "r")]
    numbers = {
        "w1": RNG.standard_normal((3, 3, 3, 3)),
        "byte": np.array([0.1, 0.2, 0.3]),
        "mean": np.full((1, 3, 1, 1), 0.5),
    }
    opened = walked(model([*first, *convolution, *FLAT, *DENSE], ("N", 8, 8, 3), **numbers), tmp_path)
    assert opened.shape == (3, 8, 8)
    assert opened.channels_last
    assert opened.feed is not None
    assert opened.feed.scale == pytest.approx((0.1, 0.2, 0.3))
    assert opened.feed.offset == (-0.5, -0.5, -0.5)
    assert isinstance(next(opened.module.children()), nn.Conv2d)


def test_weights_may_be_constants_and_be_moved_on_their_way(tmp_path: Path) -> None:
    """Constant nodes (some exporters have no initialisers), and a kernel that is reshaped or turned
    before a layer reads it.
    """
    held = onnx.numpy_helper.from_array(W["w1"].astype("f"), "w1")
    nodes = [
        onnx.helper.make_node("Constant", [], ["w1"], value=held),
        *CONVOLUTION,
        *FLAT,
        node("Transpose", "turned", "w2", perm=[1, 0]),
        node("Reshape", "tall b2size", "b2"),
        node("MatMul", "f w2", "m"),
        node("Add", "m b2", "y"),
    ]
    numbers = {
        "turned": W["w2"].T,
        "tall": W["b2"].reshape(5, 1),
        "b2size": np.array([5]),
        "w2": None,
        "b2": None,
        "w1": None,
    }
    opened = walked(model(nodes, **numbers), tmp_path)
    assert linears(opened) == 1
    assert sum(p.numel() for p in opened.module.parameters()) == sum(v.size for v in W.values())
    after = onnx.load(tmp_path / "out.onnx")
    assert np.allclose(onnx.numpy_helper.to_array(after.graph.node[0].attribute[0].t), 1.1 * W["w1"])
    assert {t.name: list(t.dims) for t in after.graph.initializer} == {
        "b1": [3],
        "turned": [5, 108],
        "tall": [5, 1],
        "b2size": [1],
    }


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_padding_same_is_read(tmp_path: Path, pool: str, auto_pad: str) -> None:
    """Uneven where it must be, and averages do not count it."""
    nodes = [
        node("Conv", "x w1 b1", "c", auto_pad=auto_pad, strides=[2, 2]),
        node(pool, "c", "r", kernel_shape=[3, 3], strides=[2, 2], auto_pad=auto_pad),
        *FLAT,
        *DENSE,
    ]
    walked(model(nodes, ("N", 1, 8, 8), w2=RNG.standard_normal((12, 5))), tmp_path)


def test_gelu_is_a_layer(tmp_path: Path) -> None:
    """An operation since opset 20."""
    opened = walked(model([CONVOLUTION[0], node("Gelu", "c", "r"), *FLAT, *DENSE], opset=20), tmp_path)
    assert any(isinstance(m, nn.GELU) for m in opened.module.modules())


def test_functions_of_a_file_are_looked_into(tmp_path: Path) -> None:
    """torch 2.1 to 2.5 wrote each operation as a function of its own; the file keeps them."""
    found = model(
        [onnx.helper.make_node("act", ["c"], ["r"], domain="pkg.torch"), CONVOLUTION[0], *FLAT, *DENSE]
    )
    versions = [onnx.helper.make_opsetid("", 17)]
    found.functions.append(
        onnx.helper.make_function("pkg.torch", "act", ["a"], ["b"], [node("Relu", "a", "b")], versions)
    )
    found.opset_import.add(domain="pkg.torch", version=1)
    assert any(isinstance(m, nn.ReLU) for m in walked(found, tmp_path).module.modules())
    assert len(onnx.load(tmp_path / "out.onnx").functions) == 1


def test_open_sizes_are_those_of_the_data_set(tmp_path: Path) -> None:
    """N x C x H x W with names for numbers: without images to go by the line says what is missing."""
    found = model([*CONVOLUTION, *FLAT, *DENSE], ("N", 1, "height", "width"))
    opened = walked(found, tmp_path, images=np.zeros((2, 1, 8, 8), "f"))
    assert opened.shape == (1, 8, 8)
    with pytest.raises(
        UsageError, match=r"its input is N x 1 x \? x \?; accepted: N x C x H x W, N x H x W or N x features"
    ):
        open_model(tmp_path / "in.onnx")


@pytest.mark.parametrize(
    ("taken", "nodes"), [((108,), DENSE), ((12, 9), [node("Flatten", "x", "f"), *DENSE])]
)
def test_vectors_and_images_without_channels_are_read(
    tmp_path: Path, taken: tuple[int, ...], nodes: list[Any]
) -> None:
    """The shape of one input is the file's."""
    nodes = [node("Gemm", "x w2 b2", "y")] if taken == (108,) else nodes
    assert walked(model(nodes, ("N", *taken)), tmp_path).shape == taken


def test_numbers_that_are_not_beside_the_model_are_named(tmp_path: Path) -> None:
    """The file that is missing, and where it goes."""
    onnx.save(
        model([*CONVOLUTION, *FLAT, *DENSE]),
        tmp_path / "in.onnx",
        save_as_external_data=True,
        location="in.onnx.data",
        size_threshold=0,
    )
    (tmp_path / "in.onnx.data").unlink()
    with pytest.raises(
        UsageError,
        match=rf"its numbers are in 'in\.onnx\.data', which is not beside it; put that file into {tmp_path}",
    ):
        open_model(tmp_path / "in.onnx")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Conv", "r w1 b1", "c"), CONVOLUTION[1], *FLAT, *DENSE], "the graph runs in a circle"),
        ([*FLAT, *DENSE], "Flatten reads 'r', which nothing in the graph makes"),
        (
            [
                node("Conv", "x w1 b1", "a"),
                node("Conv", "x w1 b1", "b"),
                node("Add", "a b", "r"),
                *FLAT,
                *DENSE,
            ],
            "'w1' is the weight of two layers; shared weights are not repaired",
        ),
    ],
)
def test_a_graph_that_cannot_be_repaired_is_one_line(tmp_path: Path, nodes: list[Any], why: str) -> None:
    """What is wrong with it, before any repair."""
    (tmp_path / "in.onnx").write_bytes(model(nodes).SerializeToString())
    with pytest.raises(UsageError, match=why) as caught:
        open_model(tmp_path / "in.onnx")
    assert "\n" not in str(caught.value)
