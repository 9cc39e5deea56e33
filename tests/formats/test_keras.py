"""Keras files: read without TensorFlow, converted by MMdnn, repaired, written back as the file they were."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from airepair.errors import UsageError
from airepair.formats import open_model

h5py = pytest.importorskip("h5py")
pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation", "ignore:The structure of")


@pytest.fixture(scope="module")
def keras():
    """Keras on the torch backend."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (pip install 'airepair[keras]')")
    from airepair.formats.keras.files import load_keras

    return load_keras()


def randomised(model, seed=0):
    """The model with weights, biases and batch-norm statistics that are not trivial."""
    r = np.random.default_rng(seed)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([r.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif layer.weights and type(layer).__name__ != "Normalization":
            layer.set_weights(
                [
                    r.normal(0, 1 / np.sqrt(max(1, np.prod(w.shape[:-1]))), w.shape)
                    for w in layer.get_weights()
                ]
            )
    return model


def lenet(keras, name="conv one"):
    """LeNet-like, with what goes wrong: "same" and stride 2, flatten of a map, batch norm, dropout,
    softmax, a name with a space.
    """
    layers = keras.layers
    return randomised(
        keras.Sequential(
            [
                keras.Input((12, 10, 1)),
                layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name=name),
                layers.BatchNormalization(momentum=0.9),
                layers.MaxPooling2D(2, padding="same"),
                layers.Flatten(),
                layers.Dropout(0.25),
                layers.Dense(8),
                layers.BatchNormalization(scale=False),
                layers.ReLU(),
                layers.Dense(5, activation="softmax"),
            ]
        )
    )


def resnet(keras):
    """A narrow residual network with the rarer layers, scaling in front."""
    layers = keras.layers
    x = i = keras.Input((12, 12, 3))
    x = layers.Rescaling(1 / 255, offset=-0.5)(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = y = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="tanh")(x)
    x = layers.Add()([x, y])
    x = layers.SpatialDropout2D(0.1)(layers.AveragePooling2D(3, 2, padding="same")(x))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(
        layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    )
    x = layers.Concatenate()([layers.LeakyReLU(0.1)(x), layers.Conv2D(4, 1, groups=2, activation="elu")(x)])
    return randomised(keras.Model(i, layers.Dense(6)(layers.GlobalAveragePooling2D()(x))))


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("build", [lenet, resnet])
def test_repair_comes_back_in_the_file_it_came_in(keras, tmp_path: Path, build, ending: str) -> None:
    """File and module agree before and after a training step; plain Keras reads the written file;
    all but the weights is untouched.
    """
    from airepair.formats.keras.files import load

    path, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    build(keras).save(path)
    opened = open_model(path)
    assert opened.fidelity is not None
    assert opened.fidelity.faithful
    assert opened.fidelity.n == 256
    step(opened.module)
    assert opened.write(opened.module, out).faithful
    before, after = (keras.models.load_model(p, compile=False) for p in (path, out))
    if build is resnet:  # plain Keras on torch averages uneven "same" padding otherwise than on TensorFlow
        before, after = (load(keras, p, "keras" if ending == "keras" else "keras-h5") for p in (path, out))
    assert before.get_config() == after.get_config()
    x = (
        np.random.default_rng(5)
        .uniform(0, 255 if opened.feed else 1, (32, *before.input_shape[1:]))
        .astype("f")
    )
    scaled = torch.from_numpy(x).permute(0, 3, 1, 2)
    if opened.feed:
        scaled = scaled * opened.feed.scale[0] + opened.feed.offset[0]
    ours = opened.module.eval()(scaled)
    ours = torch.softmax(ours, 1) if build is lenet else ours
    theirs = keras.ops.convert_to_numpy(after(x, training=False))
    assert np.abs(theirs - ours.detach().numpy()).max() < 1e-4 * max(1, theirs.std())
    assert any(
        not np.array_equal(a, b) for a, b in zip(before.get_weights(), after.get_weights(), strict=True)
    )


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_file_is_read_and_compared_on_the_cpu(keras, tmp_path: Path, ending: str) -> None:
    """Wherever Keras would compute by itself: on a GPU its convolutions round more than the comparison
    allows. (A meta device computes nothing at all.)
    """
    path, out = tmp_path / f"m.{ending}", tmp_path / f"out.{ending}"
    randomised(lenet(keras)).save(path)
    with keras.device("meta"):
        opened = open_model(path)
        assert opened.fidelity.faithful
        assert opened.write(opened.module, out).faithful
    before, after = (keras.saving.load_model(p, compile=False).get_weights() for p in (path, out))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def step(module) -> None:
    """One SGD step in training mode."""
    module.train()
    inside = next(m for m in module.modules() if isinstance(m, torch.nn.Conv2d)).in_channels
    size = (12, 10) if inside == 1 else (12, 12)
    loss = module(torch.randn(16, inside, *size, generator=torch.Generator().manual_seed(1))).square().mean()
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())
    torch.optim.SGD(module.parameters(), 0.1).step()
    module.eval()


def test_identity_is_bit_equal_and_training_is_the_files(keras, tmp_path: Path) -> None:
    """No change writes equal weights; batch-norm momentum is the file's; a batch norm without scale
    has no weight to learn.
    """
    model = lenet(keras)
    model.save(tmp_path / "a.keras")
    opened = open_model(tmp_path / "a.keras")
    opened.write(opened.module, tmp_path / "b.keras")
    again = keras.models.load_model(tmp_path / "b.keras")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    norms = [m for m in opened.module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms[0].momentum == pytest.approx(0.1)
    assert norms[1].momentum == pytest.approx(0.01)
    assert [n for n, _ in norms[1].named_parameters()] == ["bias"]
    assert sum(p.numel() for p in opened.module.parameters()) == sum(
        int(np.prod(w.shape)) for w in model.trainable_weights
    )
    opened.module.train()
    x = torch.ones(4, 1, 12, 10)
    assert not torch.equal(opened.module(x), opened.module(x)), "dropout is active in training"
    assert not torch.equal(norms[0].running_mean, torch.zeros(4))


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_names_that_torch_cannot_have_come_back(keras, tmp_path: Path, ending: str) -> None:
    """A layer called `block1.conv` (Keras on torch refuses it: written here as Keras on TensorFlow
    does) keeps its name and takes a repair.
    """
    lenet(keras, name="block1_conv").save(tmp_path / f"plain.{ending}")
    path, out = dotted(tmp_path / f"plain.{ending}"), tmp_path / f"out.{ending}"
    with pytest.raises(Exception, match="parameter name can"):
        keras.models.load_model(path)
    opened = open_model(path)
    assert "block1.conv" in opened.layers.values()
    step(opened.module)
    assert opened.write(opened.module, out).faithful
    again = open_model(out)
    assert "block1.conv" in again.layers.values()
    x = torch.randn(8, 1, 12, 10, generator=torch.Generator().manual_seed(2))
    assert (again.module(x) - opened.module(x)).abs().max() < 1e-5


def dotted(path: Path) -> Path:
    """The file with block1_conv called block1.conv, as a file that was saved elsewhere."""
    out = path.with_name(f"dotted{path.suffix}")
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
            for entry in old.infolist():
                data = old.read(entry)
                new.writestr(
                    entry,
                    data.replace(b"block1_conv", b"block1.conv") if entry.filename == "config.json" else data,
                )
        return out
    out.write_bytes(path.read_bytes())
    with h5py.File(out, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("block1_conv", "block1.conv")
        root = file["model_weights"]
        root.move("block1_conv", "block1.conv")
        root.attrs["layer_names"] = [
            n.replace(b"block1_conv", b"block1.conv") for n in map(_bytes, root.attrs["layer_names"])
        ]
    return out


def _bytes(text) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def test_a_layer_name_is_never_code(keras, tmp_path: Path, monkeypatch) -> None:
    """A layer name that would run a command if it reached MMdnn's generated code does nothing."""
    monkeypatch.chdir(tmp_path)
    code = ",".join(str(c) for c in b"open('ran','w')")
    lenet(keras, name=f"x'+str(eval(bytes(({code}))))+'").save(tmp_path / "evil.keras")
    opened = open_model(tmp_path / "evil.keras")
    assert opened.fidelity.faithful
    assert not (tmp_path / "ran").exists()


def test_what_is_not_converted_is_named(keras, tmp_path: Path) -> None:
    """Unknown layers, channels first, a shared layer and Lambda code are refused with the layer's
    name; nothing is repaired.
    """
    layers = keras.layers
    shared = layers.Dense(6, name="twice")
    i = keras.Input((4, 4, 1))
    flat = layers.Flatten()(i)
    cases = {
        "curious": keras.Sequential([keras.Input((4, 4, 1)), layers.PReLU(name="curious"), layers.Flatten()]),
        "twice": keras.Model(i, shared(shared(layers.Dense(6)(flat)))),
        "code": keras.Sequential(
            [keras.Input((4, 4, 1)), layers.Lambda(lambda x: x + 1, name="code"), layers.Flatten()]
        ),
        "late": keras.Sequential(
            [keras.Input((4, 4, 1)), layers.ReLU(), layers.Rescaling(2.0, name="late"), layers.Flatten()]
        ),
    }
    for name, model in cases.items():
        model.save(tmp_path / f"{name}.keras")
        with pytest.raises(UsageError, match=name):
            open_model(tmp_path / f"{name}.keras")
    with pytest.raises(UsageError, match="--trust-lambda"):
        open_model(tmp_path / "code.keras")


def test_an_unfaithful_conversion_names_the_first_layer(keras, tmp_path: Path, monkeypatch) -> None:
    """Where the conversion goes wrong (here: the published flatten order), opening fails and names
    the layer.
    """
    from airepair.formats.extra_layers import ChannelsLastFlatten

    lenet(keras).save(tmp_path / "a.keras")
    monkeypatch.setattr(ChannelsLastFlatten, "forward", lambda self, x: x.flatten(1))
    with pytest.raises(UsageError, match=r"not the same function.*'flatten"):
        open_model(tmp_path / "a.keras")


def test_damaged_and_hostile_files_are_refused(keras, tmp_path: Path) -> None:
    """NaN weights, links to other files, custom classes, weights only, truncation: one line each."""
    lenet(keras).save(tmp_path / "a.h5")
    lenet(keras).save(tmp_path / "a.keras")
    data = (tmp_path / "a.h5").read_bytes()

    def nan(file):
        place = []
        file["model_weights"].visititems(
            lambda n, d: place.append(n) if isinstance(d, h5py.Dataset) else None
        )
        file["model_weights"][place[0]][...] = np.nan

    def link(file):
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")

    def custom(file):
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1].update(module="os", registered_name="system")
        file.attrs["model_config"] = json.dumps(config)

    def weights_only(file):
        del file.attrs["model_config"]

    def many_ways(file):
        group = file.create_group("top")
        for _ in range(38):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    def itself(file):
        file["top"] = file["/"]

    changes = [(nan, "NaN"), (link, "link"), (custom, "'os'"), (weights_only, "model_config")]
    for change, said in (*changes, (many_ways, "group of several names"), (itself, "group of several names")):
        (tmp_path / "b.h5").write_bytes(data)
        with h5py.File(tmp_path / "b.h5", "r+") as file:
            change(file)
        with pytest.raises(UsageError, match=said):
            open_model(tmp_path / "b.h5")
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="damaged"):
        open_model(tmp_path / "cut.h5")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(30_000_000))
    with pytest.raises(UsageError, match="unpacks"):
        open_model(tmp_path / "bomb.keras", max_bytes=10_000_000)


def test_a_permute_is_read_around_a_padding_of_the_channels_only(keras, tmp_path: Path) -> None:
    """Zeros before and behind the channels, as this project writes them; any other Permute is
    refused by its name.
    """
    layers = keras.layers

    def model(*middle):
        return randomised(
            keras.Sequential([keras.Input((6, 6, 2)), *middle, layers.Flatten(), layers.Dense(3)])
        )

    turn, pad = layers.Permute((3, 2, 1), name="there"), layers.ZeroPadding2D(((1, 2), (0, 0)))
    made = model(turn, pad, layers.Permute((3, 2, 1), name="back"))
    made.save(tmp_path / "in.keras")
    opened = open_model(tmp_path / "in.keras")
    assert opened.fidelity.faithful
    x = torch.randn(2, 2, 6, 6)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 1, 2))
    assert torch.equal(next(opened.module.children())(x), padded)
    for middle, why in (
        ([layers.Permute((2, 1, 3), name="odd")], r"'odd' \(Permute\).*to \(2, 1, 3\)"),
        ([layers.Permute((3, 2, 1), name="alone")], "'alone' .*only two around a ZeroPadding2D"),
        (
            [
                layers.Permute((3, 2, 1), name="wide"),
                layers.ZeroPadding2D(((1, 1), (1, 1))),
                layers.Permute((3, 2, 1)),
            ],
            "'wide' .*only two around a ZeroPadding2D",
        ),
    ):
        model(*middle).save(tmp_path / "bad.keras")
        with pytest.raises(UsageError, match=why):
            open_model(tmp_path / "bad.keras")
