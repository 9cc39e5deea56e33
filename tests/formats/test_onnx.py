"""ONNX: read by onnx2torch with every weight trainable, written back into the same graph."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airepair.errors import UsageError
from airepair.formats import open_model

onnx = pytest.importorskip("onnx")
if importlib.util.find_spec("onnx2torch") is None:
    pytest.skip("onnx2torch is not installed (pip install 'airepair[onnx]')", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def net() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 6), nn.Softmax(1)
    )
    module[1].running_var.uniform_(0.5, 1.5)
    return module.eval()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """The net with its softmax, as ONNX."""
    from airepair.formats.onnx.files import write

    place = tmp_path_factory.mktemp("onnx") / "in.onnx"
    write(net(), (1, 8, 8), place)
    return place


def test_repair_comes_back_in_the_graph_it_came_in(path: Path, tmp_path: Path) -> None:
    """Batch norm and dense weights are parameters; a repair changes initialisers only; names and
    operations stay.
    """
    opened = open_model(path)
    assert opened.fidelity is not None
    assert opened.fidelity.faithful
    assert sum(p.numel() for p in opened.module.parameters()) == sum(p.numel() for p in net().parameters())
    with torch.no_grad():
        for p in opened.module.parameters():
            p.add_(0.1)
    assert opened.write(opened.module, tmp_path / "out.onnx").faithful
    before, after = onnx.load(path), onnx.load(tmp_path / "out.onnx")
    assert before.graph.node == after.graph.node
    assert [t.name for t in before.graph.initializer] == [t.name for t in after.graph.initializer]
    assert before != after


def test_what_todays_exporter_writes_is_read(path: Path, tmp_path: Path) -> None:
    """torch.onnx.export writes opset 18 and later, Reshape for flattening, a mean with its axes as
    input, and the numbers in a file beside.
    """
    model = onnx.load(path)
    model.opset_import[0].version = 20
    for node in model.graph.node:
        if node.op_type == "Flatten":
            node.CopyFrom(
                onnx.helper.make_node(
                    "Reshape", [node.input[0], "flat"], [node.output[0]], name=node.name, allowzero=1
                )
            )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 108]), "flat"))
    onnx.save(
        model, tmp_path / "in.onnx", save_as_external_data=True, location="in.onnx.data", size_threshold=0
    )
    assert (tmp_path / "in.onnx.data").exists()
    opened = open_model(tmp_path / "in.onnx")
    assert any("in.onnx.data" in note for note in opened.notes)
    assert (opened.module(torch.ones(3, 1, 8, 8)) - net()[:-1](torch.ones(3, 1, 8, 8))).abs().max() < 1e-5
    with torch.no_grad():
        for p in opened.module.parameters():
            p.add_(0.1)
    (tmp_path / "elsewhere").mkdir()
    assert opened.write(opened.module, tmp_path / "elsewhere" / "out.onnx").faithful
    again = onnx.load(tmp_path / "elsewhere" / "out.onnx")
    assert again.opset_import[0].version == 20
    assert [n.op_type for n in again.graph.node] == [n.op_type for n in model.graph.node]


@pytest.mark.parametrize(
    ("location", "said"),
    [("../data", "another file"), ("/etc/hostname", "another file"), ("link", "another file")],
)
def test_numbers_are_taken_from_a_file_beside_only(
    path: Path, tmp_path: Path, location: str, said: str
) -> None:
    """Not from another folder, and not through a link; and a file that is too short is said to be."""
    model = onnx.load(path)
    onnx.save(model, tmp_path / "in.onnx", save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    held = onnx.load(tmp_path / "in.onnx", load_external_data=False)
    held.graph.initializer[0].external_data[0].value = location
    (tmp_path / "changed.onnx").write_bytes(held.SerializeToString())
    with pytest.raises(UsageError, match=said):
        open_model(tmp_path / "changed.onnx")
    (tmp_path / "data").write_bytes(b"short")
    with pytest.raises(UsageError, match="which has 5"):
        open_model(tmp_path / "in.onnx")


def test_damaged_and_hostile_models_are_refused(path: Path, tmp_path: Path) -> None:
    """NaN, external data, custom operations, truncation: one line each."""

    def nan(model):
        model.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.full(3, np.nan, "f"), model.graph.initializer[0].name)
        )

    def external(model):
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    def custom(model):
        model.graph.node[0].domain = "evil"

    for change, said in ((nan, "NaN"), (external, "another file"), (custom, "custom")):
        model = onnx.load(path)
        change(model)
        (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(UsageError, match=said):
            open_model(tmp_path / "b.onnx")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError):
        open_model(tmp_path / "cut.onnx")
