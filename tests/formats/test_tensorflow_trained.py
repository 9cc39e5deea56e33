"""TensorFlow files as people leave them after training: labels, accuracies and optimizers beside
the network, inputs without channels.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from airepair.errors import UsageError
from airepair.formats import open_model
from airepair.formats.tensorflow.ends import ends
from benchmarks.fidelity.kinds import TENSORFLOW_MAKERS

pytest.importorskip("mmdnn")

# What a SavedModel answers, in TensorFlow 1's loader (as TensorFlow Serving runs it) and, if that
# can, in TensorFlow 2's.
ASK = """
import sys, numpy as np, tensorflow as tf
v1 = tf.compat.v1; x = np.load(sys.argv[2])
with v1.Graph().as_default() as g, v1.Session(graph=g) as s:
    signature = v1.saved_model.load(s, ["serve"], sys.argv[1]).signature_def["serving_default"]
    outputs = [t.name for t in signature.outputs.values() if t.dtype == 1]
    served = s.run(outputs[0], {next(iter(signature.inputs.values())).name: x})
try:
    answers = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](tf.constant(x)).values()
    loaded = next(a.numpy() for a in answers if a.dtype == tf.float32)
except AttributeError as error:
    assert "add_slot" in str(error) and sys.argv[1].endswith("trained")
    loaded = served
assert loaded is not served or sys.argv[1].endswith("trained")
np.savez(sys.argv[3], served=served, loaded=loaded)
"""


def python(*words: object) -> None:
    """Runs Python with TensorFlow in a process of its own."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed (pip install 'airepair[tf]')")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of samples; TensorFlow's own loader fails on `trained`, as it does on what Keras 2 left."""
    folder = tmp_path_factory.mktemp("tf")
    python("-m", TENSORFLOW_MAKERS, folder)
    return folder


def changed(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter a little off."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=noise))
    return module


@pytest.mark.slow
def test_a_graph_of_flat_vectors_that_ends_in_its_accuracy(made: Path, tmp_path: Path) -> None:
    """The network in front of the arg-max is repaired; the accuracy behind it stays in the file,
    and the batch of ten with it.
    """
    opened = open_model(made / "accuracy.pb")
    assert opened.shape == (120,)
    assert any("ArgMax, Cast, Equal, Mean" in note for note in opened.notes)
    assert opened.write(changed(opened.module), tmp_path / "out.pb").faithful
    again = open_model(tmp_path / "out.pb")
    x = torch.randn(4, 120, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(again.module(x), opened.module(x), atol=1e-5)
    assert not torch.allclose(again.module(x), open_model(made / "accuracy.pb").module(x), atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained", "classes", "exported"])
def test_a_saved_model_is_repaired_for_everybody_who_loads_it(made: Path, tmp_path: Path, name: str) -> None:
    """TensorFlow Serving's way in and TensorFlow 2's give the repaired network; saved_model.pb is
    the user's, byte for byte.
    """
    opened = open_model(made / name)
    assert opened.shape == (12, 10)
    assert opened.write(changed(opened.module), tmp_path / name).faithful
    assert (tmp_path / name / "saved_model.pb").read_bytes() == (made / name / "saved_model.pb").read_bytes()
    x = np.random.default_rng(0).standard_normal((8, 12, 10)).astype("f")
    np.save(tmp_path / "x.npy", x)
    python("-c", ASK, tmp_path / name, tmp_path / "x.npy", tmp_path / "y.npz")
    ours = opened.module(torch.from_numpy(x)).detach()
    if name != "exported":
        ours = torch.softmax(ours, 1)
    with np.load(tmp_path / "y.npz") as found:
        assert np.abs(ours.numpy() - found["served"]).max() < 1e-4
        assert np.abs(ours.numpy() - found["loaded"]).max() < 1e-4


def graph(*nodes: tuple[str, str, list[str]]) -> SimpleNamespace:
    """A graph of (name, operation, inputs); placeholders are N x 28 x 28 floats."""
    shape = SimpleNamespace(shape=SimpleNamespace(dim=[None, 28, 28]), type=1)
    return SimpleNamespace(
        node=[
            SimpleNamespace(name=n, op=op, input=i, attr={"dtype": shape, "shape": shape})
            for n, op, i in nodes
        ]
    )


NETWORK = (
    ("x", "Placeholder", []),
    ("w", "Const", []),
    ("logits", "MatMul", ["x", "w"]),
    ("y", "Softmax", ["logits"]),
)


@pytest.mark.parametrize(
    ("behind", "output", "left"),
    [
        ((), "y", ()),
        ((("classes", "ArgMax", ["y", "w"]),), "y", ("ArgMax",)),
        (
            (("classes", "ArgMax", ["logits", "w"]),),
            "y",
            ("ArgMax",),
        ),  # two outputs: the softmax reads what the arg-max reads
        (
            (
                ("t", "Placeholder", []),
                ("a", "ArgMax", ["y"]),
                ("b", "ArgMax", ["t"]),
                ("e", "Equal", ["a", "b"]),
                ("c", "Cast", ["e"]),
                ("m", "Mean", ["c", "w"]),
            ),
            "y",
            ("ArgMax", "Cast", "Equal", "Mean"),
        ),
        (
            (
                ("t", "Placeholder", []),
                ("l", "Log", ["y"]),
                ("p", "Mul", ["t", "l"]),
                ("s", "Sum", ["p", "w"]),
                ("n", "Neg", ["s"]),
            ),
            "y",
            ("Log", "Mul", "Neg", "Sum"),
        ),
        ((("n", "NoOp", ["^y"]), ("save", "Const", [])), "y", ()),
        ((("pooled", "Mean", ["logits", "w"]),), "pooled", ()),  # a mean that is the network's own
    ],
)
def test_the_network_ends_before_what_stands_behind_it(
    behind: tuple[tuple[str, str, list[str]], ...], output: str, left: tuple[str, ...]
) -> None:
    """An arg-max, an accuracy and a loss are gone over to the output with one number per class;
    labels are no image.
    """
    network = NETWORK[:3] if output == "pooled" else NETWORK
    assert ends(graph(*network, *behind), None, "a.pb") == ("x", output, left)


def test_two_networks_in_one_graph_are_refused_by_name() -> None:
    """Two heads of which none feeds the other."""
    with pytest.raises(
        UsageError, match=r"image inputs \['x'\] and outputs \['other', 'y'\]; one of each was expected"
    ):
        ends(graph(*NETWORK, ("other", "MatMul", ["x", "w"])), None, "a.pb")
    assert ends(graph(*NETWORK, ("other", "MatMul", ["x", "w"])), ["y"], "a") == ("x", "y", ())
