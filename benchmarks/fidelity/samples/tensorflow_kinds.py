"""TensorFlow files as people leave them after training: `python -m
benchmarks.fidelity.samples.tensorflow_kinds FOLDER [NAME ...]` makes them.

In a process of its own, like all that imports TensorFlow. Each function gives the path of one file
in the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


def _network(x: Any, weight: Callable[..., Any]) -> Any:
    """N x 12 x 10 numbers in any shape -> N x 5 logits, through one convolution."""
    image = tf.reshape(x, [-1, 12, 10, 1])
    maps = tf.nn.relu(tf.nn.conv2d(image, weight(3, 3, 1, 4), [1, 2, 2, 1], "SAME") + weight(4))
    return tf.matmul(tf.reshape(maps, [-1, 6 * 5 * 4]), weight(120, 5)) + weight(5)


def _variable(*shape: int) -> Any:
    v1 = tf.compat.v1
    start = v1.random_normal_initializer(stddev=0.4, seed=1)
    return v1.get_variable(f"w{len(v1.global_variables())}", shape, initializer=start, use_resource=False)


def accuracy(folder: Path) -> Path:
    """A frozen graph of flat vectors in batches of ten that ends in its accuracy, labels beside the
    images.
    """
    v1, path = tf.compat.v1, folder / "accuracy.pb"
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x, labels = (
            v1.placeholder(tf.float32, [10, 120], "x"),
            v1.placeholder(tf.float32, [None, 5], "labels"),
        )
        right = tf.equal(tf.argmax(_network(x, _variable), 1), tf.argmax(labels, 1))
        tf.reduce_mean(tf.cast(right, tf.float32), name="accuracy")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["accuracy"])
    path.write_bytes(frozen.SerializeToString())
    return path


def classes(folder: Path) -> Path:
    """A TF1 SavedModel of images without channels, whose signature gives classes and probabilities."""
    v1, path = tf.compat.v1, folder / "classes"
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 12, 10], "x")
        y = tf.nn.softmax(_network(x, _variable))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(path), {"x": x}, {"classes": tf.argmax(y, 1), "probabilities": y}
        )
    return path


def trained(folder: Path) -> Path:
    """A SavedModel with an optimizer's slots, as Keras 2 leaves it (TensorFlow's own loader fails
    on it), and a signature that trains.
    """
    path, r, model = folder / "trained", tf.random.Generator.from_seed(1), tf.Module()
    model.w, model.b = tf.Variable(r.normal((120, 5))), tf.Variable(r.normal((5,)))
    model.optimizer = tf.compat.v1.train.AdamOptimizer()

    def logits(x: Any) -> Any:
        return tf.matmul(tf.reshape(x, (-1, 120)), model.w) + model.b

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits(x)))
        model.optimizer.apply_gradients(
            zip(tape.gradient(loss, [model.w, model.b]), [model.w, model.b], strict=True)
        )
        return loss

    image, label = tf.TensorSpec((None, 12, 10)), tf.TensorSpec((None,), tf.int64)
    model.serve = tf.function(lambda x: tf.nn.softmax(logits(x)), input_signature=[image])
    model.train = tf.function(step, input_signature=[image, label])
    model.train(tf.ones((2, 12, 10)), tf.zeros((2,), tf.int64))
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.serve, "train": model.train})
    return path


def exported(folder: Path) -> Path:
    """A SavedModel of Keras 3, which keeps each weight twice."""
    layers, path = keras.layers, folder / "exported"
    keras.Sequential([keras.Input((12, 10)), layers.Flatten(), layers.Dense(5)]).export(path, verbose=False)
    return path


def smooth(folder: Path) -> Path:
    """A SavedModel of Keras 3 with GELU, which is several operations in a graph."""
    layers, path = keras.layers, folder / "smooth"
    hidden = [layers.Conv2D(4, 3, activation="gelu"), layers.Flatten(), layers.Dense(6, "gelu")]
    keras.Sequential([keras.Input((12, 10, 1)), *hidden, layers.Dense(5)]).export(path, verbose=False)
    return path


MAKERS: tuple[Callable[[Path], Path], ...] = (accuracy, classes, trained, exported, smooth)


if __name__ == "__main__":
    for make in MAKERS:
        if make.__name__ in sys.argv[2:] or not sys.argv[2:]:
            make(Path(sys.argv[1]))
