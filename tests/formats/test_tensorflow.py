"""TensorFlow files: read in a worker, converted by MMdnn, repaired, written back into the same graph."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from airepair.errors import UsageError
from airepair.formats import open_model

pytest.importorskip("mmdnn")
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("tensorflow is not installed (pip install 'airepair[tf]')", allow_module_level=True)

# Makes, in one process with TensorFlow: a Keras 3 network as frozen graph and as SavedModel, a TF1
# network with dropout and batch norm as frozen graph and, with its gradients and optimizer beside
# it, as TF1 SavedModel, and a graph that would write a file.
MAKE = """
import sys, numpy as np, tensorflow as tf, keras
from pathlib import Path
out = Path(sys.argv[1]); r = np.random.default_rng(0); L = keras.layers; v1 = tf.compat.v1
i = x = keras.Input((12, 10, 1))
x = L.Rescaling(1 / 255, offset=-0.5)(x)
x = y = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
x = L.BatchNormalization()(x)
x = L.Add()([L.Conv2D(4, 3, padding="same", use_bias=False)(x), y])
x = L.AveragePooling2D(2, padding="same")(L.LeakyReLU(0.1)(x))
x = L.DepthwiseConv2D(3, padding="same")(x)
x = L.Dense(8)(L.Dropout(0.2)(L.Flatten()(x)))
x = L.ReLU()(L.BatchNormalization(scale=False)(x))
model = keras.Model(i, L.Dense(5, activation="softmax")(x))
for layer in model.layers:
    layer.set_weights([r.uniform(.5, 1.5, w.shape) if "batch" in layer.name else r.normal(0, .4, w.shape) for w in layer.get_weights()])
model.export(out / "keras3", verbose=False)
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
f = tf.function(lambda a: model(a, training=False)).get_concrete_function(tf.TensorSpec((None, 12, 10, 1)))
(out / "keras3.pb").write_bytes(convert_variables_to_constants_v2(f).graph.as_graph_def().SerializeToString())
with v1.Graph().as_default() as g, v1.Session(graph=g) as s:
    x = v1.placeholder(tf.float32, [None, 12, 10, 1], "x"); keep = v1.placeholder(tf.float32, (), "keep")
    def weight(*shape): return v1.get_variable("w%d" % len(v1.global_variables()), shape, initializer=v1.random_normal_initializer(stddev=.4, seed=1))
    h = v1.nn.relu(v1.nn.conv2d(x, weight(3, 3, 1, 4), [1, 1, 1, 1], "SAME") + weight(4))
    mean, variance = weight(4), v1.get_variable("var", initializer=tf.constant([.5, 1., 2., 1.5]))
    h = v1.nn.batch_normalization(h, mean, variance, weight(4), weight(4), 1e-3)
    h = v1.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    h = v1.nn.dropout(v1.reshape(h, [-1, 6 * 5 * 4]), keep_prob=keep)
    y = v1.add(v1.matmul(h, weight(120, 5)), weight(5), name="y")
    v1.train.AdamOptimizer().minimize(v1.reduce_mean(v1.square(y)))
    s.run(v1.global_variables_initializer())
    v1.saved_model.simple_save(s, str(out / "tf1"), {"x": x}, {"y": y})
    (out / "tf1.pb").write_bytes(v1.graph_util.convert_variables_to_constants(s, g.as_graph_def(), ["y"]).SerializeToString())
with v1.Graph().as_default() as g:
    x = v1.placeholder(tf.float32, [None, 4, 4, 1], "x")
    with tf.control_dependencies([tf.raw_ops.WriteFile(filename=str(out / "ran"), contents="x")]):
        y = v1.identity(v1.reshape(x, [-1, 16]))
    (out / "evil.pb").write_bytes(g.as_graph_def().SerializeToString())
"""

# What the files answer, in TensorFlow itself.
ASK = """
import sys, numpy as np, tensorflow as tf
v1 = tf.compat.v1
x = np.random.default_rng(7).uniform(0, 255, (8, 12, 10, 1)).astype("f")
if sys.argv[1].endswith(".pb"):
    graph = v1.GraphDef.FromString(open(sys.argv[1], "rb").read())
    with v1.Graph().as_default() as g, v1.Session(graph=g) as s:
        v1.import_graph_def(graph, name="")
        y = s.run([n.name for n in graph.node][-1] + ":0", {next(n.name for n in graph.node if n.op == "Placeholder") + ":0": x})
else:
    y = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](tf.constant(x))
    y = next(iter(y.values())).numpy()
np.save(sys.argv[2], y)
"""


def python(code: str, *args: object) -> None:
    """Runs code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of files that MAKE leaves."""
    folder = tmp_path_factory.mktemp("tf")
    python(MAKE, folder)
    return folder


def changed(module) -> None:
    """One SGD step in training mode."""
    module.train()
    module(torch.randn(16, 1, 12, 10, generator=torch.Generator().manual_seed(1))).square().mean().backward()
    assert all(p.grad is not None for p in module.parameters())
    torch.optim.SGD(module.parameters(), 0.01).step()
    module.eval()


@pytest.mark.parametrize(
    "name",
    ["keras3.pb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("keras3", "tf1.pb", "tf1"))],
)
def test_repair_comes_back_in_the_graph_it_came_in(made: Path, tmp_path: Path, name: str) -> None:
    """File and module agree before and after a training step; all of the graph but its weights is
    untouched.
    """
    opened = open_model(made / name)
    assert opened.fidelity is not None
    assert opened.fidelity.faithful
    assert (opened.feed is not None) == name.startswith("keras3")
    assert opened.shape == (1, 12, 10)
    changed(opened.module)
    out = tmp_path / name
    assert opened.write(opened.module, out).faithful
    if not name.endswith(".pb"):
        assert (out / "saved_model.pb").read_bytes() == (made / name / "saved_model.pb").read_bytes()
    if name.startswith("keras3"):
        python(ASK, out, tmp_path / "y.npy")
        x = torch.from_numpy(np.random.default_rng(7).uniform(0, 255, (8, 12, 10, 1)).astype("f")).permute(
            0, 3, 1, 2
        )
        ours = (
            torch.softmax(opened.module(x * opened.feed.scale[0] + opened.feed.offset[0]), 1).detach().numpy()
        )
        assert np.abs(ours - np.load(tmp_path / "y.npy")).max() < 1e-4


def test_a_graph_that_writes_files_is_refused(made: Path) -> None:
    """An operation that is not on the list never reaches a session."""
    with pytest.raises(UsageError, match="WriteFile"):
        open_model(made / "evil.pb")
    assert not (made / "ran").exists()


def test_the_worker_may_be_another_interpreter(made: Path, tmp_path: Path, monkeypatch) -> None:
    """AIREPAIR_TF_PYTHON names it; it gets by without torch. One that is not there is one line."""
    python = tmp_path / "python"
    run = 'runpy.run_module("airepair.formats.tensorflow.worker", run_name="__main__")'
    lines = [
        "import runpy, sys",
        'sys.modules["torch"] = None',
        f'open({str(tmp_path / "used")!r}, "w").close()',
        "del sys.argv[:-2]",
        run,
    ]
    python.write_text(f"#!{sys.executable}\n" + "\n".join(lines) + "\n")
    python.chmod(0o755)
    monkeypatch.setenv("AIREPAIR_TF_PYTHON", str(python))
    assert open_model(made / "tf1.pb").fidelity.faithful
    assert (tmp_path / "used").exists()
    monkeypatch.setenv("AIREPAIR_TF_PYTHON", str(tmp_path / "nobody"))
    with pytest.raises(UsageError, match="cannot be started"):
        open_model(made / "tf1.pb")


def test_the_graph_of_a_folder_is_no_frozen_graph(made: Path) -> None:
    """A SavedModel's saved_model.pb alone has no weights: the error says to give the folder."""
    with pytest.raises(UsageError, match="give its folder"):
        open_model(made / "keras3" / "saved_model.pb")


@pytest.mark.slow
def test_an_unfaithful_conversion_names_the_first_node(made: Path, monkeypatch) -> None:
    """Where the conversion goes wrong (here: the published flatten order), opening fails and names
    a node of the graph.
    """
    from airepair.formats.extra_layers import ChannelsLastFlatten

    monkeypatch.setattr(ChannelsLastFlatten, "forward", lambda self, x: x.flatten(1))
    with pytest.raises(UsageError, match=r"not the same function.*first layer that differs: '.*[Rr]eshape"):
        open_model(made / "keras3.pb")
