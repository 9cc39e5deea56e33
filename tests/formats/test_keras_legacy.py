"""Keras files of 2016 to 2023: configurations in the words of their time, read, repaired and
written back as they were.
"""

import importlib.util
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airepair.errors import UsageError, one_line, shortened
from airepair.formats import open_model
from benchmarks.fidelity.samples import keras_kinds as samples

h5py = pytest.importorskip("h5py")
pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation", "ignore:The structure of")
AGES = (
    samples.keras1,
    samples.keras20,
    samples.keras2,
    samples.tensorflow1,
    samples.built,
    samples.behind_an_input_layer,
)


@pytest.fixture(scope="module")
def keras():
    """Keras on the torch backend."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (pip install 'airepair[keras]')")
    from airepair.formats.keras.files import load_keras

    return load_keras()


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
def test_an_old_hdf5_file_is_read_and_comes_back_as_it_was(
    keras, tmp_path: Path, age: Callable[[samples.Config], samples.Config]
) -> None:
    """It answers like the same network in a file of today; a repair changes its weights, and
    neither its configuration nor a name.
    """
    model, path = samples.convolutional(), samples.hdf5(tmp_path, age)
    opened = open_model(path)
    x = np.random.default_rng(5).random((8, 12, 10, 1)).astype("f")
    ours = torch.softmax(opened.module(torch.from_numpy(x).permute(0, 3, 1, 2)), 1).detach().numpy()
    assert np.abs(ours - keras.ops.convert_to_numpy(model(x, training=False))).max() < 1e-5
    assert set(opened.layers.values()) >= {"conv", "norm", "out"}
    assert opened.write(stepped(opened.module), tmp_path / "b.h5").faithful
    before, after = datasets(path), datasets(tmp_path / "b.h5")
    assert before.keys() == after.keys()
    changed = {k.split("/")[1] for k in before if not np.array_equal(before[k], after[k])}
    assert changed == {"conv", "norm", "out"}


@pytest.mark.parametrize("age", [samples.keras2, samples.behind_an_input_layer])
def test_an_old_archive_is_read_and_comes_back_as_it_was(
    keras, tmp_path: Path, age: Callable[[samples.Config], samples.Config]
) -> None:
    """A .keras of Keras 2.12 to 2.15, whose weights stand in a group of another name."""
    samples.convolutional().save(tmp_path / "new.keras")
    (tmp_path / "old").mkdir()
    path = samples.archive(tmp_path / "old", age)
    opened, new = open_model(path), open_model(tmp_path / "new.keras")
    x = torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(opened.module(x), new.module(x), atol=1e-6)
    assert opened.write(stepped(opened.module), tmp_path / "b.keras").faithful
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(tmp_path / "b.keras") as after:
        assert before.read("config.json") == after.read("config.json")
        assert before.read("model.weights.h5") != after.read("model.weights.h5")


def test_a_dense_network_of_the_time_says_its_input_in_one_number(keras, tmp_path: Path) -> None:
    """`Dense(..., input_dim=784)`, with a regulariser and an activation that is a layer: flat
    vectors of 784.
    """
    opened = open_model(samples.dense(tmp_path))
    assert opened.shape == (784,)
    assert any(isinstance(m, torch.nn.LeakyReLU) for m in opened.module.modules())
    assert opened.write(stepped(opened.module), tmp_path / "b.h5").faithful


def test_a_configuration_without_any_shape_says_what_to_do(keras, tmp_path: Path) -> None:
    """No shape on a layer, none that the model was built for."""

    def shapeless(config: samples.Config) -> samples.Config:
        found = samples.built(config)
        del found["config"]["build_input_shape"]
        return found

    path = samples.hdf5(tmp_path, shapeless)
    with pytest.raises(
        UsageError, match="does not say the shape of the input; save the model after it was built or fitted"
    ):
        open_model(path)


@pytest.mark.parametrize(
    ("weights", "json_name"),
    [("net.h5", "net.json"), ("weights.h5", "model.json"), ("net.weights.h5", "net.json")],
)
def test_weights_and_architecture_are_a_pair(keras, tmp_path: Path, weights: str, json_name: str) -> None:
    """`model.to_json()` beside weights: of the same name, or the only one there; both come back,
    and the record says so.
    """
    model = samples.convolutional()
    if weights.endswith(".weights.h5"):
        model.save_weights(tmp_path / weights)  # as Keras 3 writes weights
        (tmp_path / json_name).write_text(model.to_json())
    else:
        samples.weights_and_json(tmp_path).rename(tmp_path / weights)
        (tmp_path / "model.json").rename(tmp_path / json_name)
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
    assert torch.allclose(
        again.module(torch.ones(2, 1, 12, 10)), opened.module(torch.ones(2, 1, 12, 10)), atol=1e-6
    )


def test_weights_without_their_architecture_say_what_is_wanted(keras, tmp_path: Path) -> None:
    """None beside them, or several of which none has the name."""
    samples.weights_and_json(tmp_path).rename(tmp_path / "net.h5")
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").unlink()
    with pytest.raises(
        UsageError, match=r"weights only \(no model_config\); accepted: .* as net\.json beside it$"
    ):
        open_model(tmp_path / "net.h5")
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=r"as net\.json beside it; found: one\.json, two\.json"):
        open_model(tmp_path / "net.h5")


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_names_with_a_slash_come_back(keras, tmp_path: Path, ending: str) -> None:
    """Keras 2 allowed `block/conv`; Keras 3 does not: the network is read under another name and
    written under its own.
    """

    def slashed(config: samples.Config) -> samples.Config:
        found = samples.keras2(config)
        found["config"]["layers"][0]["config"]["name"] = "block/conv"
        return found

    path = samples.hdf5(tmp_path, slashed) if ending == "h5" else samples.archive(tmp_path, slashed)
    if ending == "h5":
        with h5py.File(path, "r+") as file:
            root = file["model_weights"]
            root.move("conv", "block/conv")
            names = [n if isinstance(n, str) else n.decode() for n in root.attrs["layer_names"]]
            root.attrs["layer_names"] = [("block/conv" if n == "conv" else n).encode() for n in names]
    opened = open_model(path)
    assert "block/conv" in opened.layers.values()
    assert opened.write(stepped(opened.module), tmp_path / f"b.{ending}").faithful
    assert "block/conv" in open_model(tmp_path / f"b.{ending}").layers.values()


def test_what_is_not_known_stays_for_keras_to_refuse(keras, tmp_path: Path) -> None:
    """A keyword of nobody, a class that says it is Keras's and is not: one line each, whole words
    to its end.
    """

    def odd(config: samples.Config) -> samples.Config:
        found = samples.keras2(config)
        found["config"]["layers"][0]["config"]["spectral"] = True
        return found

    path = samples.hdf5(tmp_path, odd)
    with pytest.raises(UsageError, match="Keras cannot read it") as caught:
        open_model(path)
    assert "spectral" in str(caught.value)
    assert re.search(r"(\w|[.)'\]}]|\.\.\.)$", str(caught.value))


def test_a_message_is_cut_between_words() -> None:
    """The end of a long text is left out by whole words, and three dots say so."""
    text = "the first words and `get_config` at the end"
    assert shortened(text, 30) == "the first words and ..."
    assert shortened(text, 100) == text
    assert one_line(UsageError("x" * 400)).endswith(" ...")
    assert len(one_line(ValueError("word " * 200))) <= 300
