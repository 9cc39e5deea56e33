"""MMdnn is the hub: PyTorch, Keras and TensorFlow files each go through its parsers and emitters,
in and out.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.formats import open_model
from airepair.formats.export import export
from airepair.formats.extra_layers import ChannelsLastFlatten
from airepair.formats.mmdnn.ir import graph_pb2, quiet
from airepair.models.vision import torchvision

pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore")
# Class of MMdnn -> a method of its own that a conversion of a dense layer calls.
PARTS = {
    "keras.keras2_parser.Keras2Parser": "rename_Dense",
    "pytorch.pytorch_parser.PytorchParser": "_convert_identity_operation",
    "pytorch.pytorch_emitter.PytorchEmitter": "gen_code",
    "keras.keras2_emitter.Keras2Emitter": "gen_code",
    "tensorflow.tensorflow_frozenparser.TensorflowParser2": "rename_MatMul",
    "tensorflow.tensorflow_emitter.TensorflowEmitter": "gen_code",
}


@contextmanager
def heard(*names: str) -> Iterator[set[str]]:
    """Which of these classes of MMdnn are called meanwhile."""
    called: set[str] = set()
    torchvision()  # its torch parser imports it
    graph_pb2()
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            module, _, kind = name.rpartition(".")
            with quiet():
                part = getattr(importlib.import_module(f"mmdnn.conversion.{module}"), kind)
            patch.setattr(part, PARTS[name], _told(getattr(part, PARTS[name]), kind, called))
        yield called


def _told(method, kind: str, called: set[str]):
    def tell(*words, **more):
        called.add(kind)
        return method(*words, **more)

    return tell


def network() -> nn.Module:
    """Two layers, which every framework has."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), ChannelsLastFlatten(), nn.Linear(72, 4)).eval()


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_keras_goes_through_mmdnn(tmp_path: Path, ending: str) -> None:
    """Out: its torch parser and Keras emitter. In: its Keras parser and torch emitter."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (pip install 'airepair[keras]')")
    from airepair.formats.keras.files import load_keras
    from airepair.formats.mmdnn.to_keras import _emitter_class

    load_keras()
    _emitter_class()  # its Keras emitter asks, while it is imported, for what Keras 3 has not
    with heard("pytorch.pytorch_parser.PytorchParser", "keras.keras2_emitter.Keras2Emitter") as out:
        export(network(), (1, 8, 8), tmp_path / f"net{ending}")
    assert out == {"PytorchParser", "Keras2Emitter"}
    with heard("keras.keras2_parser.Keras2Parser", "pytorch.pytorch_emitter.PytorchEmitter") as into:
        open_model(tmp_path / f"net{ending}")
    assert into == {"Keras2Parser", "PytorchEmitter"}


@pytest.mark.parametrize("ending", [".pt", ".pt2"])
def test_torch_programs_go_through_mmdnn(tmp_path: Path, ending: str) -> None:
    """TorchScript and exported programs: its torch parser and torch emitter."""
    export(network(), (1, 8, 8), tmp_path / f"net{ending}")
    with heard("pytorch.pytorch_parser.PytorchParser", "pytorch.pytorch_emitter.PytorchEmitter") as called:
        open_model(tmp_path / f"net{ending}", trust_pickle=True, shape=(1, 8, 8))
    assert called == {"PytorchParser", "PytorchEmitter"}


WORKER = """
import importlib, runpy, sys
from airepair.formats.mmdnn.ir import graph_pb2, quiet
graph_pb2()
import tensorflow
for name, method in {parts!r}.items():
    module, _, kind = name.rpartition(".")
    with quiet():
        part = getattr(importlib.import_module("mmdnn.conversion." + module), kind)
    def tell(*words, _method=getattr(part, method), _kind=kind, **more):
        open({folder!r} + "/" + _kind, "w").close()
        return _method(*words, **more)
    setattr(part, method, tell)
del sys.argv[:-2]
runpy.run_module("airepair.formats.tensorflow.worker", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pb", ""])
def test_tensorflow_goes_through_mmdnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Out: its torch parser and, in the worker, its TensorFlow emitter.

    In: there its TensorFlow parser, and its torch emitter.
    """
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed (pip install 'airepair[tf]')")
    parts = {name: method for name, method in PARTS.items() if name.startswith("tensorflow.")}
    called = tmp_path / "called"
    called.mkdir()
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{WORKER.format(parts=parts, folder=str(called))}")
    python.chmod(0o755)
    monkeypatch.setenv("AIREPAIR_TF_PYTHON", str(python))
    with heard("pytorch.pytorch_parser.PytorchParser") as out:
        export(network(), (1, 8, 8), tmp_path / f"net{ending}")
    assert out == {"PytorchParser"}
    assert {p.name for p in called.iterdir()} == {"TensorflowEmitter"}
    with heard("pytorch.pytorch_emitter.PytorchEmitter") as into:
        open_model(tmp_path / f"net{ending}")
    assert into == {"PytorchEmitter"}
    assert {p.name for p in called.iterdir()} == {"TensorflowEmitter", "TensorflowParser2"}
