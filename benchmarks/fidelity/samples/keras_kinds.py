"""Keras files as they were written from 2016 to 2023, made from today's Keras: each way of writing
one and the same configuration.
"""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from airepair.formats.keras.files import load_keras
from airepair.formats.library_warnings import without_warnings

Config = dict[str, Any]
IMAGE = (12, 10, 1)  # of the convolutional network


def trained(*layers: Any) -> Any:
    """A Sequential with weights that are not trivial."""
    keras, r = load_keras(), np.random.default_rng(0)
    model = keras.Sequential(list(layers))
    for layer in model.layers:
        norm = type(layer).__name__ == "BatchNormalization"
        layer.set_weights(
            [r.uniform(0.5, 1.5, w.shape) if norm else r.normal(0, 0.4, w.shape) for w in layer.get_weights()]
        )
    return model


def convolutional() -> Any:
    """A small network for 12 x 10 x 1 images with the layers whose words have changed."""
    keras = load_keras()
    layers = keras.layers
    return trained(
        keras.Input(IMAGE),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.LeakyReLU(0.3, name="leaky"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Flatten(name="flat"),
        layers.Dropout(0.2, name="drop"),
        layers.Dense(5, activation="softmax", name="out"),
    )


# ---- configurations in the words of their time
# ------------------------------------------------------------------------------------------


def plain(config: Config) -> list[Config]:
    """The layers as Keras 2 writes them: no modules, types in words, no InputLayer; its shape is on
    the first layer.
    """
    layers, shape = [], None
    for layer in copy.deepcopy(config["config"]["layers"]):
        settings = {
            k: v for k, v in layer["config"].items() if k not in ("synchronized", "quantization_config")
        }
        if layer["class_name"] == "InputLayer":
            shape = settings["batch_shape"]
            continue
        settings["dtype"] = "float32"
        layers.append({"class_name": layer["class_name"], "config": settings})
    layers[0]["config"]["batch_input_shape"] = shape
    return layers


def keras2(config: Config) -> Config:
    """Keras 2.3: slopes as arrays, the axis of a batch norm in a list, arguments that Keras 3 dropped."""
    layers = plain(config)
    for layer in layers:
        if layer["class_name"] == "LeakyReLU":
            layer["config"]["alpha"] = {"type": "ndarray", "value": layer["config"].pop("negative_slope")}
        if layer["class_name"] == "BatchNormalization":
            layer["config"] |= {"axis": [3], "fused": True, "virtual_batch_size": None, "renorm": False}
        if layer["class_name"] == "Conv2D":
            layer["config"]["kernel_initializer"] = {
                "class_name": "VarianceScaling",
                "config": {"distribution": "normal"},
            }
    shape = layers[0]["config"]["batch_input_shape"]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers, "build_input_shape": shape}}


def keras20(config: Config) -> Config:
    """Keras 2.0: the configuration of a Sequential model is its list of layers."""
    return {"class_name": "Sequential", "config": keras2(config)["config"]["layers"]}


def tensorflow1(config: Config) -> Config:
    """tf.keras of TensorFlow 1: layers with a version in their name, functions of TensorFlow as
    activations.
    """
    found = keras2(config)
    for layer in found["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["class_name"] = "BatchNormalizationV1"
        if layer["config"].get("activation") == "softmax":
            layer["config"]["activation"] = "softmax_v2"
        layer["config"]["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}
    return found


def keras1(config: Config) -> Config:
    """Keras 1.2 (2016): other names for almost every argument."""
    words = {
        "filters": "nb_filter",
        "strides": "subsample",
        "padding": "border_mode",
        "data_format": "dim_ordering",
        "use_bias": "bias",
    }
    words |= {"units": "output_dim", "rate": "p", "negative_slope": "alpha"}
    layers = plain(config)
    for layer in layers:
        old = {words.get(k, k): v for k, v in layer["config"].items()}
        if layer["class_name"] == "MaxPooling2D":
            old["strides"] = old.pop("subsample")
        if layer["class_name"] == "Conv2D":
            layer["class_name"] = "Convolution2D"
            old["nb_row"], old["nb_col"] = old.pop("kernel_size")
            for key in ("dilation_rate", "groups"):
                del old[key]
        if layer["class_name"] == "BatchNormalization":
            old["mode"] = 0
        old = {
            k.replace("kernel_initializer", "init").replace("kernel_reg", "W_reg"): v for k, v in old.items()
        }
        layer["config"] = {k: "tf" if v == "channels_last" else v for k, v in old.items()}
    return {"class_name": "Sequential", "config": layers}


def built(config: Config) -> Config:
    """A model that was given no shape: only what it was built for says it."""
    found = keras2(config)
    del found["config"]["layers"][0]["config"]["batch_input_shape"]
    return found


def behind_an_input_layer(config: Config) -> Config:
    """tf.keras 2.4 and later: an InputLayer, with Keras 2's word for its shape, and the shape on
    the first layer besides.
    """
    found = keras2(config)
    shape = found["config"]["layers"][0]["config"]["batch_input_shape"]
    first = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": shape, "sparse": False, "ragged": False, "name": "i"},
    }
    found["config"]["layers"].insert(0, first)
    return found


def with_input_dim(config: Config) -> Config:
    """Dense(..., input_dim=784), its activation a layer."""
    found = keras2(config)
    first = found["config"]["layers"][0]["config"]
    first["input_dim"] = first.pop("batch_input_shape")[1]
    del found["config"]["build_input_shape"]
    first["activation"] = {
        "class_name": "LeakyReLU",
        "config": {"alpha": {"type": "ndarray", "value": 0.1}, "name": "l"},
    }
    return found


# ---- files
# ------------------------------------------------------------------------------------------


def hdf5(
    folder: Path, age: Callable[[Config], Config] = keras2, model: Callable[[], Any] = convolutional
) -> Path:
    """An .h5 file with the configuration of that age."""
    path = folder / "net.h5"
    with without_warnings():
        model().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(age(json.loads(file.attrs["model_config"])))
        file.attrs["keras_version"] = "2.3.0-tf"
    return path


def archive(folder: Path, age: Callable[[Config], Config] = behind_an_input_layer) -> Path:
    """A .keras file as Keras 2.14 wrote it: its configuration, its modules, its group of weights."""
    new, path, weights = folder / "new.keras", folder / "net.keras", folder / "weights.tmp"
    convolutional().save(new)
    with zipfile.ZipFile(new) as old, zipfile.ZipFile(path, "w") as made:
        config = age(json.loads(old.read("config.json")))
        for layer in config["config"]["layers"]:
            layer |= {
                "module": "keras.layers",
                "registered_name": None,
                "build_config": {"input_shape": [None, *IMAGE]},
            }
        config |= {"module": "keras.src.engine.sequential", "registered_name": "Sequential"}
        made.writestr("config.json", json.dumps(config))
        made.writestr("metadata.json", json.dumps({"keras_version": "2.14.0"}))
        weights.write_bytes(old.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            file.move("layers", "_layer_checkpoint_dependencies")
        made.writestr("model.weights.h5", weights.read_bytes())
    weights.unlink()
    new.unlink()
    return path


def weights_and_json(folder: Path) -> Path:
    """What `save_weights` of Keras 2 wrote, groups of layers at the top of the file, and
    `model.to_json()` beside it.
    """
    model, whole, path = convolutional(), folder / "whole.h5", folder / "weights.h5"
    with without_warnings():
        model.save(whole)
    with h5py.File(whole, "r") as old, h5py.File(path, "w") as made:
        for name in old["model_weights"]:
            old.copy(old["model_weights"][name], made, name)
        made.attrs.update(old["model_weights"].attrs)
    whole.unlink()
    (folder / "model.json").write_text(json.dumps(keras2(json.loads(model.to_json()))))
    return path


def dense(folder: Path) -> Path:
    """Flat vectors of 784, said in one number."""

    def model() -> Any:
        keras = load_keras()
        layers = keras.layers
        return trained(
            keras.Input((784,)),
            layers.Dense(6, activation=layers.LeakyReLU(0.1), kernel_regularizer="l2"),
            layers.Dense(5),
        )

    return hdf5(folder, with_input_dim, model)


def without_channels(folder: Path, shape: tuple[int, ...]) -> Path:
    """A .keras file for inputs of `shape`, flattened first."""
    keras = load_keras()
    path = folder / "net.keras"
    trained(keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(5, activation="softmax")).save(
        path
    )
    return path


def reshaped(folder: Path) -> Path:
    """A .keras file that turns flat vectors into images."""
    keras = load_keras()
    layers = keras.layers
    path = folder / "net.keras"
    trained(
        keras.Input((120,)),
        layers.Reshape(IMAGE),
        layers.Conv2D(3, 3, activation="elu"),
        layers.Flatten(),
        layers.Dense(5),
    ).save(path)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "Keras 1.2 (2016): Convolution2D(nb_filter, ...), a list of layers": partial(hdf5, age=keras1),
    "Keras 2.0: a list of layers, the shape on the first": partial(hdf5, age=keras20),
    "Keras 2.3: the shape on the first layer, slopes as arrays": partial(hdf5, age=keras2),
    "tf.keras of TensorFlow 1": partial(hdf5, age=tensorflow1),
    "Keras 2, no layer with a shape": partial(hdf5, age=built),
    "Keras 2.14, .keras": archive,
    "weights only, the architecture in a .json beside them": weights_and_json,
    "Dense(input_dim=784), its activation a layer": dense,
    "28 x 28 (TensorFlow's beginner tutorial)": partial(without_channels, shape=(28, 28)),
    "784 x 1": partial(without_channels, shape=(784, 1)),
    "1 x 784": partial(without_channels, shape=(1, 784)),
    "flat vectors, turned into images by the network": reshaped,
}
