"""Keras files of 2016 to 2023: configurations in the words of their time, read, repaired and written back as they were."""

import copy
import importlib.util
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airepair.errors import UsageError, one_line, shortened
from airepair.models.formats import open_model

h5py = pytest.importorskip("h5py")
pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation", "ignore:The structure of")
Config = dict[str, Any]


@pytest.fixture(scope="module")
def keras():
    """Keras on the torch backend."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (pip install 'airepair[keras]')")
    from airepair.models.formats.keras_files import load_keras

    return load_keras()


def trained(keras: Any, layers: list[Any]) -> Any:
    """A Sequential with weights that are not trivial."""
    model, r = keras.Sequential(layers), np.random.default_rng(0)
    for layer in model.layers:
        norm = type(layer).__name__ == "BatchNormalization"
        layer.set_weights([r.uniform(0.5, 1.5, w.shape) if norm else r.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    return model


def convolutional(keras: Any) -> Any:
    """A small network for 12 x 10 x 1 images with the layers whose words have changed."""
    layers = keras.layers
    return trained(
        keras,
        [
            keras.Input((12, 10, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.LeakyReLU(0.3, name="leaky"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(5, activation="softmax", name="out"),
        ],
    )


def plain(config: Config) -> list[Config]:
    """The layers as Keras 2 writes them: no modules, dtypes in words, no InputLayer; its shape is on the first layer."""
    layers, shape = [], None
    for layer in copy.deepcopy(config["config"]["layers"]):
        settings = {k: v for k, v in layer["config"].items() if k not in ("synchronized", "quantization_config")}
        if layer["class_name"] == "InputLayer":
            shape = settings["batch_shape"]
            continue
        settings["dtype"] = "float32"
        layers.append({"class_name": layer["class_name"], "config": settings})
    layers[0]["config"]["batch_input_shape"] = shape
    return layers


def keras2(config: Config) -> Config:
    """Keras 2.3: a dictionary, slopes as arrays, the axis of a batch norm in a list, arguments that Keras 3 dropped."""
    layers = plain(config)
    for layer in layers:
        if layer["class_name"] == "LeakyReLU":
            layer["config"]["alpha"] = {"type": "ndarray", "value": layer["config"].pop("negative_slope")}
        if layer["class_name"] == "BatchNormalization":
            layer["config"] |= {"axis": [3], "fused": True, "virtual_batch_size": None, "renorm": False}
        if layer["class_name"] == "Conv2D":
            layer["config"]["kernel_initializer"] = {"class_name": "VarianceScaling", "config": {"distribution": "normal"}}
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers, "build_input_shape": [None, 12, 10, 1]}}


def keras20(config: Config) -> Config:
    """Keras 2.0: the configuration of a Sequential model is its list of layers."""
    return {"class_name": "Sequential", "config": keras2(config)["config"]["layers"]}


def tensorflow1(config: Config) -> Config:
    """tf.keras of TensorFlow 1: layers with a version in their name, functions of TensorFlow as activations."""
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
    words = {"filters": "nb_filter", "strides": "subsample", "padding": "border_mode", "data_format": "dim_ordering", "use_bias": "bias"}
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
        old = {k.replace("kernel_initializer", "init").replace("kernel_reg", "W_reg"): v for k, v in old.items()}
        layer["config"] = {k: "tf" if v == "channels_last" else v for k, v in old.items()}
    return {"class_name": "Sequential", "config": layers}


def built(config: Config) -> Config:
    """A model that was given no shape: only what it was built for says it."""
    found = keras2(config)
    del found["config"]["layers"][0]["config"]["batch_input_shape"]
    return found


def behind_an_input_layer(config: Config) -> Config:
    """tf.keras 2.4 and later: an InputLayer, with Keras 2's word for its shape, and the shape on the first layer besides."""
    found = keras2(config)
    first = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 12, 10, 1], "sparse": False, "ragged": False, "name": "i"}}
    found["config"]["layers"].insert(0, first)
    return found


AGES = (keras1, keras20, keras2, tensorflow1, built, behind_an_input_layer)


def aged_hdf5(path: Path, age: Callable[[Config], Config]) -> None:
    """Rewrites the configuration of an .h5 file."""
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(age(json.loads(file.attrs["model_config"])))
        file.attrs["keras_version"] = "2.3.0-tf"


def aged_archive(path: Path, out: Path, age: Callable[[Config], Config]) -> None:
    """The .keras file as Keras 2.14 wrote it: its configuration, its modules, its group of weights."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        config = age(json.loads(old.read("config.json")))
        for layer in config["config"]["layers"]:
            layer |= {"module": "keras.layers", "registered_name": None, "build_config": {"input_shape": [None, 12, 10, 1]}}
        config |= {"module": "keras.src.engine.sequential", "registered_name": "Sequential"}
        new.writestr("config.json", json.dumps(config))
        new.writestr("metadata.json", json.dumps({"keras_version": "2.14.0"}))
        weights = out.with_suffix(".tmp")
        weights.write_bytes(old.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            file.move("layers", "_layer_checkpoint_dependencies")
        new.writestr("model.weights.h5", weights.read_bytes())


def stepped(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter a little off."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=noise))
    return module


def datasets(path: Path) -> dict[str, Any]:
    """All arrays and attributes of an .h5 file."""
    found: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        found[name] = item[()] if isinstance(item, h5py.Dataset) else None
        found.update({f"{name}@{k}": v for k, v in item.attrs.items()})

    with h5py.File(path, "r") as file:
        file.visititems(take)
        found.update({f"@{k}": v for k, v in file.attrs.items()})
    return found


@pytest.mark.parametrize("age", AGES)
def test_an_old_hdf5_file_is_read_and_comes_back_as_it_was(keras, tmp_path: Path, age: Callable[[Config], Config]) -> None:
    """It answers like the same network in a file of today; a repair changes its weights, and neither its configuration nor a name."""
    model = convolutional(keras)
    model.save(tmp_path / "a.h5")
    aged_hdf5(tmp_path / "a.h5", age)
    opened = open_model(tmp_path / "a.h5")
    x = np.random.default_rng(5).random((8, 12, 10, 1)).astype("f")
    ours = torch.softmax(opened.module(torch.from_numpy(x).permute(0, 3, 1, 2)), 1).detach().numpy()
    assert np.abs(ours - keras.ops.convert_to_numpy(model(x, training=False))).max() < 1e-5
    assert set(opened.layers.values()) >= {"conv", "norm", "out"}
    assert opened.write(stepped(opened.module), tmp_path / "b.h5").faithful
    before, after = datasets(tmp_path / "a.h5"), datasets(tmp_path / "b.h5")
    assert before.keys() == after.keys()
    changed = {k.split("/")[1] for k in before if not np.array_equal(before[k], after[k])}
    assert changed == {"conv", "norm", "out"}


@pytest.mark.parametrize("age", [keras2, behind_an_input_layer])
def test_an_old_archive_is_read_and_comes_back_as_it_was(keras, tmp_path: Path, age: Callable[[Config], Config]) -> None:
    """A .keras of Keras 2.12 to 2.15, whose weights stand in a group of another name."""
    convolutional(keras).save(tmp_path / "new.keras")
    aged_archive(tmp_path / "new.keras", tmp_path / "a.keras", age)
    opened, new = open_model(tmp_path / "a.keras"), open_model(tmp_path / "new.keras")
    x = torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(opened.module(x), new.module(x), atol=1e-6)
    assert opened.write(stepped(opened.module), tmp_path / "b.keras").faithful
    with zipfile.ZipFile(tmp_path / "a.keras") as before, zipfile.ZipFile(tmp_path / "b.keras") as after:
        assert before.read("config.json") == after.read("config.json")
        assert before.read("model.weights.h5") != after.read("model.weights.h5")


def test_a_dense_network_of_the_time_says_its_input_in_one_number(keras, tmp_path: Path) -> None:
    """`Dense(..., input_dim=784)`, with a regulariser and an activation that is a layer: flat vectors of 784."""
    layers = keras.layers
    leaky = layers.Dense(6, activation=layers.LeakyReLU(0.1), kernel_regularizer="l2")
    trained(keras, [keras.Input((784,)), leaky, layers.Dense(5)]).save(tmp_path / "a.h5")

    def with_input_dim(config: Config) -> Config:
        found = keras2(config)
        first = found["config"]["layers"][0]["config"]
        del first["batch_input_shape"], found["config"]["build_input_shape"]
        first["input_dim"] = 784
        first["activation"] = {"class_name": "LeakyReLU", "config": {"alpha": {"type": "ndarray", "value": 0.1}, "name": "l"}}
        return found

    aged_hdf5(tmp_path / "a.h5", with_input_dim)
    opened = open_model(tmp_path / "a.h5")
    assert opened.shape == (784,)
    assert any(isinstance(m, torch.nn.LeakyReLU) for m in opened.module.modules())
    assert opened.write(stepped(opened.module), tmp_path / "b.h5").faithful


def test_a_configuration_without_any_shape_says_what_to_do(keras, tmp_path: Path) -> None:
    """No shape on a layer, none that the model was built for."""
    convolutional(keras).save(tmp_path / "a.h5")

    def shapeless(config: Config) -> Config:
        found = built(config)
        del found["config"]["build_input_shape"]
        return found

    aged_hdf5(tmp_path / "a.h5", shapeless)
    with pytest.raises(UsageError, match="does not say the shape of the input; save the model after it was built or fitted"):
        open_model(tmp_path / "a.h5")


def weights_only(model: Any, path: Path) -> None:
    """What `save_weights` of Keras 2 wrote: the groups of the layers at the top of the file."""
    whole = path.with_suffix(".whole.h5")
    model.save(whole)
    with h5py.File(whole, "r") as old, h5py.File(path, "w") as new:
        for name in old["model_weights"]:
            old.copy(old["model_weights"][name], new, name)
        new.attrs.update(old["model_weights"].attrs)
    whole.unlink()


@pytest.mark.parametrize(("weights", "json_name"), [("net.h5", "net.json"), ("weights.h5", "model.json"), ("net.weights.h5", "net.json")])
def test_weights_and_architecture_are_a_pair(keras, tmp_path: Path, weights: str, json_name: str) -> None:
    """`model.to_json()` beside weights: of the same name, or the only one there; both come back, and the record says so."""
    model = convolutional(keras)
    if weights.endswith(".weights.h5"):
        model.save_weights(tmp_path / weights)  # as Keras 3 writes weights
        (tmp_path / json_name).write_text(model.to_json())
    else:
        weights_only(model, tmp_path / weights)
        (tmp_path / json_name).write_text(json.dumps(keras2(json.loads(model.to_json()))))
        (tmp_path / "history.json").write_text('{"loss": [1, 2]}')  # no architecture
    opened = open_model(tmp_path / weights)
    assert f"the architecture is that of {json_name} beside it" in " ".join(opened.notes)
    x = np.random.default_rng(5).random((8, 12, 10, 1)).astype("f")
    ours = torch.softmax(opened.module(torch.from_numpy(x).permute(0, 3, 1, 2)), 1).detach().numpy()
    assert np.abs(ours - keras.ops.convert_to_numpy(model(x, training=False))).max() < 1e-5
    (tmp_path / "out").mkdir()
    assert opened.write(stepped(opened.module), tmp_path / "out" / weights).faithful
    assert (tmp_path / "out" / json_name).read_bytes() == (tmp_path / json_name).read_bytes()
    again = open_model(tmp_path / "out" / weights)
    assert torch.allclose(again.module(torch.ones(2, 1, 12, 10)), opened.module(torch.ones(2, 1, 12, 10)), atol=1e-6)


def test_weights_without_their_architecture_say_what_is_wanted(keras, tmp_path: Path) -> None:
    """None beside them, or several of which none has the name."""
    model = convolutional(keras)
    weights_only(model, tmp_path / "net.h5")
    with pytest.raises(UsageError, match=r"weights only \(no model_config\); accepted: .* as net\.json beside it$"):
        open_model(tmp_path / "net.h5")
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(model.to_json())
    with pytest.raises(UsageError, match=r"as net\.json beside it; found: one\.json, two\.json"):
        open_model(tmp_path / "net.h5")


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_names_with_a_slash_come_back(keras, tmp_path: Path, ending: str) -> None:
    """Keras 2 allowed `block/conv`; Keras 3 does not: the network is read under another name and written under its own."""
    convolutional(keras).save(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "r+") as file:
        root = file["model_weights"]
        root.move("conv", "block/conv")
        names = [n if isinstance(n, str) else n.decode() for n in root.attrs["layer_names"]]
        root.attrs["layer_names"] = [("block/conv" if n == "conv" else n).encode() for n in names]
        config = keras2(json.loads(file.attrs["model_config"]))
        config["config"]["layers"][0]["config"]["name"] = "block/conv"
        file.attrs["model_config"] = json.dumps(config)
    path = tmp_path / "plain.h5"
    if ending == "keras":
        convolutional(keras).save(tmp_path / "new.keras")

        def slashed(found: Config) -> Config:
            made = keras2(found)
            made["config"]["layers"][0]["config"]["name"] = "block/conv"
            return made

        path = tmp_path / "a.keras"
        aged_archive(tmp_path / "new.keras", path, slashed)
    opened = open_model(path)
    assert "block/conv" in opened.layers.values()
    assert opened.write(stepped(opened.module), tmp_path / f"b.{ending}").faithful
    assert "block/conv" in open_model(tmp_path / f"b.{ending}").layers.values()


def test_what_is_not_known_stays_for_keras_to_refuse(keras, tmp_path: Path) -> None:
    """A keyword of nobody, a class that says it is Keras's and is not: one line each, whole words to its end."""
    convolutional(keras).save(tmp_path / "a.h5")

    def odd(config: Config) -> Config:
        found = keras2(config)
        found["config"]["layers"][0]["config"]["spectral"] = True
        return found

    aged_hdf5(tmp_path / "a.h5", odd)
    with pytest.raises(UsageError, match="Keras cannot read it") as caught:
        open_model(tmp_path / "a.h5")
    assert "spectral" in str(caught.value)
    assert re.search(r"(\w|[.)'\]}]|\.\.\.)$", str(caught.value))


def test_a_message_is_cut_between_words() -> None:
    """The end of a long text is left out by whole words, and three dots say so."""
    text = "the first words and `get_config` at the end"
    assert shortened(text, 30) == "the first words and ..."
    assert shortened(text, 100) == text
    assert one_line(UsageError("x" * 400)).endswith(" ...")
    assert len(one_line(ValueError("word " * 200))) <= 300
