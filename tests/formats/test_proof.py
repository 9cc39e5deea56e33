"""A user's story: a network trained in Keras comes in as a file, is repaired, goes back, and plain
Keras scores what the record says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from airepair import data
from airepair.case import Case
from airepair.errors import Unavailable
from airepair.methods.arachne import Arachne
from airepair.methods.finetune import Finetune
from airepair.subjects.user_model.input_spec import InputSpec, ModelSource
from airepair.subjects.user_model.load import bring
from airepair.testing.cells import prepare, run

pytest.importorskip("h5py")
pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = {"finetune": Finetune(lr=0.01, epochs=4), "arachne": Arachne(generations=10, population=20)}

# Trains a CNN with Keras on the images of an npz and saves it as .h5 and, where Keras runs on
# TensorFlow, as a frozen graph.
TRAIN = """
import sys, numpy as np, keras
x, y, side, out = *(np.load(sys.argv[1])[k] for k in ("x", "y")), int(sys.argv[2]), sys.argv[3]
L = keras.layers; keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((side, side, 1)), L.Rescaling(1 / 255), L.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
    L.BatchNormalization(momentum=0.9), L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D(2), L.Flatten(), L.Dropout(0.2),
    L.Dense(32, activation="relu"), L.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=64, epochs=1, verbose=0)
model.save(out + ".h5")
if keras.backend.backend() != "tensorflow": sys.exit()
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
f = tf.function(lambda a: model(a, training=False)).get_concrete_function(tf.TensorSpec((None, side, side, 1)))
open(out + ".pb", "wb").write(convert_variables_to_constants_v2(f).graph.as_graph_def().SerializeToString())
"""
# The accuracy of files, each loaded as its user's own code would.
SCORE = """
import json, sys, numpy as np, keras
x, y = (np.load(sys.argv[1])[k] for k in ("x", "y"))
def answers(path):
    if path.endswith(".h5"):
        return keras.models.load_model(path).predict(x, verbose=0)
    import tensorflow as tf
    v1 = tf.compat.v1
    graph = v1.GraphDef.FromString(open(path, "rb").read())
    with v1.Graph().as_default() as g, v1.Session(graph=g) as s:
        v1.import_graph_def(graph, name="")
        source = next(n.name for n in graph.node if n.op == "Placeholder") + ":0"
        return s.run(graph.node[-1].name + ":0", {source: x})
print(json.dumps({p: float((answers(p).argmax(1) == y).mean()) for p in sys.argv[2:]}))
"""


def repaired(path: Path, dataset: str, profile: str, name: str, out: Path):
    """Repairs the file with the method and writes it back; the record and the subject."""
    brought = ModelSource(path, feeding=InputSpec(input_range=(0.0, 255.0)), trained_on="split of seed 0")
    subject, opened = bring(brought, dataset, profile=profile, device=torch.device("cpu"))
    outcome = run(prepare(Case(dataset, "brought", name, 0), subject, METHODS[name]))
    assert outcome.record.status == "repaired", outcome.record.reason
    fidelity = opened.write(outcome.module, out)
    assert fidelity is not None
    assert fidelity.faithful
    return outcome.record, subject


def pixels(split) -> tuple[np.ndarray, np.ndarray]:
    """The images as their user has them: N x H x W x 1 in 0..255, float32."""
    return (split.images() * 255).permute(0, 2, 3, 1).numpy().astype("f"), split.y.numpy()


def test_a_keras_file_of_digits_comes_back_and_scores_what_the_record_says(tmp_path: Path) -> None:
    """Trained by Keras (on torch), repaired by two methods, loaded by plain Keras: the accuracy on
    test is the record's, to the last image.
    """
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (pip install 'airepair[keras]')")
    from airepair.formats.keras.files import load_keras

    keras = load_keras()
    layers = keras.layers
    keras.utils.set_random_seed(0)
    parts = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(momentum=0.9),
    ]
    parts += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *parts])
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = pixels(data.load("digits").train)
    model.fit(x, y, batch_size=32, epochs=3, verbose=0)
    model.save(tmp_path / "mine.h5")
    for name in METHODS:
        record, subject = repaired(tmp_path / "mine.h5", "digits", "none", name, tmp_path / f"{name}.h5")
        again = keras.models.load_model(tmp_path / f"{name}.h5")
        assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
        x, y = pixels(subject.dataset.test)
        assert float((again.predict(x, verbose=0).argmax(1) == y).mean()) == pytest.approx(
            record.after["accuracy"], abs=1e-9
        )
        before = float((model.predict(x, verbose=0).argmax(1) == y).mean())
        assert before == pytest.approx(record.before["accuracy"], abs=1e-9)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("ending", ["h5", "pb"])
def test_mnist_networks_of_keras_and_tensorflow_come_back(tmp_path: Path, ending: str) -> None:
    """Trained with Keras on MNIST, as .h5 and as a frozen graph, repaired by two methods: plain
    Keras and TensorFlow answer as the record says.
    """
    needed = "keras" if ending == "h5" else "tensorflow"
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (pip install 'airepair[keras,tf]')")
    try:
        mnist = data.load("mnist")
    except Unavailable as error:
        pytest.skip(f"{error}")
    x, y = pixels(mnist.train.select(torch.arange(4000)))
    np.savez(tmp_path / "train.npz", x=x, y=y)
    python(TRAIN, tmp_path / "train.npz", 28, tmp_path / "mine")
    records = {}
    for name in METHODS:
        out = tmp_path / f"{name}.{ending}"
        records[str(out)], subject = repaired(tmp_path / f"mine.{ending}", "mnist", "cpu", name, out)
    x, y = pixels(subject.dataset.test)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    scores = json.loads(python(SCORE, tmp_path / "test.npz", *records).splitlines()[-1])
    for path, record in records.items():
        assert scores[path] == pytest.approx(record.after["accuracy"], abs=1e-9), path
        assert record.before["accuracy"] > 0.5
        assert record.after["accuracy"] != record.before["accuracy"]


def python(code: str, *words: object) -> str:
    """Runs code in a process of its own, with Keras on TensorFlow as its users have it (on torch
    where that is absent); what it printed.
    """
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "torch"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
