"""Networks that take images without a channel axis, or as flat vectors: fed accordingly, said in
the record, written back unchanged.
"""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airepair.cli.flags import add_flags
from airepair.data.user_inputs import read_inputs
from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.formats import open_model
from airepair.formats.export import export
from airepair.formats.extra_layers import ChannelsLastFlatten, ChannelsLastReshape
from airepair.formats.fidelity import check_inputs
from airepair.models.input_adapter import InputAdapter
from airepair.models.layouts import LAYOUTS, arranged, layouts_of, shape_in
from airepair.subjects.user_model.input_spec import ModelSource, brought_from, stated
from airepair.subjects.user_model.load import bring

CPU = torch.device("cpu")
# Each answers with the brightest of four quarters, or of three channels, and takes images in the
# layout of its name.
NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        assert x.shape[1:] == SHAPE, x.shape
        return self.fc(x.flatten(1))
"""


def quarters(rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grey 4 x 6 images, one quarter of which is bright."""
    x, y = generator.integers(0, 100, (rows, 4, 6), dtype=np.uint8), np.arange(rows) % 4
    for image, label in zip(x, y, strict=True):
        image[2 * (label // 2) :][:2, 3 * (label % 2) :][:, :3] += 120
    return x, y


@pytest.fixture
def grey(tmp_path: Path) -> str:
    """The data set of quarters."""
    x, y = quarters(240, np.random.default_rng(0))
    np.savez(tmp_path / "grey.npz", x_train=x, y_train=y, classes=np.array(["a", "b", "c", "d"]))
    return f"npz:{tmp_path / 'grey.npz'}"


def network(path: Path, shape: tuple[int, ...], weight: np.ndarray) -> Path:
    """Weights of NETS' Net and the code that they belong to."""
    torch.save(
        {"fc.weight": torch.tensor(weight, dtype=torch.float32), "fc.bias": torch.zeros(len(weight))}, path
    )
    text = (
        NETS.replace("FEATURES", str(int(np.prod(shape))))
        .replace("CLASSES", str(len(weight)))
        .replace("SHAPE", str(shape))
    )
    path.with_suffix(".py").write_text(text)
    return path


def masks() -> np.ndarray:
    """Dense weights that answer with the bright quarter of a grey image."""
    found = np.zeros((4, 4, 6))
    for label in range(4):
        found[label, 2 * (label // 2) :][:2, 3 * (label % 2) :][:, :3] = 1
    return found.reshape(4, 24)


def given(path: Path, *words: str) -> ModelSource:
    """What a command line makes of its words."""
    parser = argparse.ArgumentParser()
    add_flags(parser, "repair")
    parser.set_defaults(pretrained=str(path), net_arch=f"{path.with_suffix('.py')}:Net", depth=None)
    return brought_from(parser.parse_args(words))


@pytest.mark.parametrize("layout", [word for word in LAYOUTS if word != "flat-NHWC"])
def test_a_torch_network_is_fed_in_the_layout_that_it_takes(tmp_path: Path, grey: str, layout: str) -> None:
    """Unstated, the first layout that it answers; the record says which and why; what is written
    takes the layout of the original.
    """
    shape = shape_in(layout, (1, 4, 6))
    assert shape is not None
    subject, opened = bring(
        given(network(tmp_path / "a.pt", shape, masks())), grey, profile="none", device=CPU
    )
    assert sit(subject.module, subject.dataset.validation).accuracy == 1
    said = subject.origin["feeding"].get("layout")
    assert said == (
        None
        if layout == "NCHW"
        else {"value": layout, "from": "the first that the network takes; N x C x H x W it does not"}
    )
    opened.write(subject.module, tmp_path / "back.pt")
    back, before = (torch.load(tmp_path / name, weights_only=True) for name in ("back.pt", "a.pt"))
    assert back.keys() == before.keys()
    assert all(torch.equal(back[k], before[k]) for k in before)


def test_a_stated_layout_is_the_one_that_counts(tmp_path: Path) -> None:
    """Flat colour images: channel after channel unless `flat-NHWC` says pixel after pixel; the hint
    names it where it fits.
    """
    generator = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = generator.integers(0, 120, (240, 2, 3, 3), dtype=np.uint8)
    x[np.arange(240), :, :, y] += 90
    np.savez(tmp_path / "colours.npz", x_train=x, y_train=y, classes=np.array(["r", "g", "b"]))
    data = f"npz:{tmp_path / 'colours.npz'}"
    by_pixel = np.eye(3)[:, None, :].repeat(6, 1).reshape(3, 18)
    path = network(tmp_path / "pixels.pt", (18,), by_pixel * 20)
    subject, _ = bring(given(path, "--layout", "flat-nhwc"), data, profile="none", device=CPU)
    assert sit(subject.module, subject.dataset.validation).accuracy == 1
    assert subject.origin["feeding"]["layout"] == {"value": "flat-NHWC", "from": "option"}
    with pytest.raises(UsageError, match=r"give --input-range 0\.\.1 --layout flat-NHWC"):
        bring(given(path), data, profile="none", device=CPU)
    with pytest.raises(
        UsageError, match=r"layout NHW has no room for the 3 channels of .*; accepted: NCHW, NHWC, flat"
    ):
        bring(given(path, "--layout", "NHW"), data, profile="none", device=CPU)


def test_every_layout_holds_the_same_image() -> None:
    """Torch and numpy arrays alike; the shape is the one that is announced; grey images are the
    same in C x H x W and H x W x C.
    """
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for word in LAYOUTS:
        images = x[:, :1] if word == "NHW" else x
        found = arranged(images, word)
        assert tuple(found.shape[1:]) == shape_in(word, tuple(images.shape[1:]))
        assert np.array_equal(arranged(images.numpy(), word), found.numpy())
    assert arranged(x, "flat-NHWC")[0, :3].tolist() == [0, 20, 40]
    assert arranged(x, "flat")[0, :3].tolist() == [0, 1, 2]
    assert layouts_of((60,), (3, 4, 5)) == ("flat", "flat-NHWC")
    assert layouts_of((60,), (3, 4, 5), channels_last=True) == ("flat-NHWC", "flat")
    assert layouts_of((20,), (1, 4, 5), channels_last=True) == ("flat",)
    assert layouts_of((4, 5), (3, 4, 5)) == layouts_of((61,), (3, 4, 5)) == ()
    assert InputAdapter(nn.Flatten(), layout="NHW")(x[:, :1].float()).shape == (2, 20)


def test_a_conversion_is_checked_on_the_images_as_the_network_takes_them() -> None:
    """The data set's images follow the drawn inputs, laid out for the network; where they do not
    fit, they are left out.
    """
    images = np.random.default_rng(0).random((3, 3, 4, 5))
    assert np.allclose(check_inputs((60,), images)[-3:], images.reshape(3, 60))
    assert np.allclose(
        check_inputs((60,), images, channels_last=True)[-3:], images.transpose(0, 2, 3, 1).reshape(3, 60)
    )
    assert len(check_inputs((4, 5), images)) == 256


WITHOUT_CHANNELS = {
    "vector": ((120,), nn.Linear(120, 8), nn.ELU(), nn.Linear(8, 5)),
    "grey": ((12, 10), nn.Flatten(), nn.Linear(120, 5)),
    "row": ((1, 120), nn.Flatten(), nn.Linear(120, 5)),
    "image": (
        (120,),
        ChannelsLastReshape((12, 10, 1)),
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        ChannelsLastFlatten(),
        nn.Linear(240, 5),
    ),
}


@pytest.mark.parametrize(
    "ending",
    [
        ".h5",
        ".keras",
        ".onnx",
        ".pt2",
        ".pt",
        pytest.param(".pb", marks=pytest.mark.slow),
        pytest.param("", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", WITHOUT_CHANNELS)
def test_a_network_without_channels_is_written_in_every_format(
    tmp_path: Path, kind: str, ending: str
) -> None:
    """Keras, TensorFlow, ONNX and torch keep the axes of its input; what is read back from Keras
    and TensorFlow is the same network.
    """
    pytest.importorskip("mmdnn")
    pytest.importorskip(
        {".h5": "keras", ".keras": "keras", ".onnx": "onnx2torch", ".pb": "tensorflow", "": "tensorflow"}.get(
            ending, "torch"
        )
    )
    shape, *layers = WITHOUT_CHANNELS[kind]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for layer in layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    module = nn.Sequential(*layers).eval()
    assert export(module, shape, tmp_path / f"net{ending}").faithful
    if ending in (".h5", ".keras", ".pb", ""):
        opened = open_model(tmp_path / f"net{ending}")
        assert opened.shape == shape
        x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(opened.module(x), module(x), atol=1e-4)


def test_layouts_are_words_in_any_case(tmp_path: Path) -> None:
    """`nhw` is NHW; anything else is refused with the words."""
    assert stated({"layout": "Flat-nhwc"}, "option", tmp_path).layout == "flat-NHWC"
    with pytest.raises(
        UsageError,
        match=r"unknown layout 'NWH'.*accepted: NCHW, NHWC, NHW, flat, flat-NHWC, flat-column, flat-row",
    ):
        stated({"layout": "NWH"}, "option", tmp_path)


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 1, 4, 6), (3, 4, 6, 1), (3, 24)])
def test_inputs_to_repair_have_their_axes_as_solve_takes_them(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """N x H x W, N x 1 x H x W, N x H x W x 1 and flat vectors of grey images are one thing."""
    x, y = quarters(3, np.random.default_rng(1))
    np.savez(tmp_path / "w.npz", x=x.reshape(shape), y=y)
    found = read_inputs(f"npz:{tmp_path / 'w.npz'}", ("a", "b", "c", "d"), (1, 4, 6))
    assert np.array_equal(found.x.numpy(), x[:, None])


def test_inputs_to_repair_in_colour_may_have_channels_first(tmp_path: Path) -> None:
    """N x 3 x H x W is told from N x H x W x 3 by the data set's shape."""
    x = np.random.default_rng(1).integers(0, 255, (2, 3, 4, 6), dtype=np.uint8)
    np.savez(tmp_path / "w.npz", x=x, y=[0, 1])
    assert np.array_equal(read_inputs(f"npz:{tmp_path / 'w.npz'}", ("a", "b"), (3, 4, 6)).x.numpy(), x)
