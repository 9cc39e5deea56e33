"""The architectures: sizes, shapes, names; and how a network is fed."""

import copy
import os

import pytest
import torch
from torch import nn

from airepair.errors import UsageError
from airepair.models import MODELS, build
from airepair.models.input_adapter import InputAdapter

CIFAR = (3, 32, 32)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("resnet18", CIFAR, 11_173_962),
        ("resnet34", CIFAR, 21_282_122),
        ("resnet50", CIFAR, 23_520_842),
        ("resnet20", CIFAR, 269_722),
        ("resnet56", CIFAR, 853_018),
        ("cnn", (1, 28, 28), 187_062),
    ],
)
def test_the_architectures_have_the_published_sizes(
    name: str, shape: tuple[int, int, int], parameters: int
) -> None:
    """Parameters at 10 classes, to the last one."""
    with torch.device("meta"):
        assert size(build(name, "", 10, shape)) == parameters


@pytest.mark.parametrize(
    "name",
    [
        "resnet18w4",
        "resnet50w4",
        "resnet20",
        "resnet20w8",
        "fc",
        "resnet18w4_undertrained",
        "resnet18w4+backdoor",
    ],
)
def test_every_name_takes_cifar_images(name: str) -> None:
    """N x K logits, and gradients in every parameter."""
    module = build(name, "cifar100", 100, CIFAR)
    logits = module(torch.rand(4, *CIFAR))
    assert logits.shape == (4, 100)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_the_paper_cnn_has_relu_before_batch_norm() -> None:
    """The order of layers that airepair/models/plain.py lists, with channel dropout of .2 after each pool."""
    module = build("cnn", "mnist", 10, (1, 28, 28))
    kinds = [type(m).__name__ for m in module.children()]
    convolution, pool = ["Conv2d", "ReLU", "BatchNorm2d"], ["MaxPool2d", "Dropout2d"]
    assert kinds == [
        *convolution * 2,
        *pool,
        *convolution * 2,
        *pool,
        *convolution * 2,
        "Flatten",
        "Linear",
        "ReLU",
        "Linear",
    ]
    assert [m.p for m in module.children() if isinstance(m, nn.Dropout2d)] == [0.2, 0.2]
    with pytest.raises(UsageError, match="at least 28 x 28 pixels; these are 8 x 8"):
        build("cnn", "", 10, (1, 8, 8))


def test_digits_have_networks_of_their_own() -> None:
    """A line for one data set is preferred there."""
    assert size(build("cnn", "digits", 10, (1, 8, 8))) < 20_000
    assert size(build("fc", "digits", 10, (1, 8, 8))) == size(build("digits/fc", "", 10, (1, 8, 8)))


def test_option_a_drops_pixels_and_pads_channels() -> None:
    """The parameter-free shortcut of the CIFAR paper."""
    from airepair.models.resnet_cifar import Padded

    x = torch.rand(2, 4, 6, 6)
    y = Padded(4)(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert float(y[:, :2].abs().sum() + y[:, 6:].abs().sum()) == 0


@pytest.mark.parametrize("name", ["resnet19", "resnet18w0", "resnet18wx"])
def test_an_unknown_name_is_one_line(name: str) -> None:
    """With what would be accepted."""
    with pytest.raises(UsageError, match="accepted: "):
        build(name, "cifar10", 10, CIFAR)


def test_every_registered_model_can_be_imported() -> None:
    """No line of the registry is broken."""
    assert MODELS.broken() == {}


def test_a_feed_standardises_and_survives() -> None:
    """(scale x - mean) / std; the state dict carries it, no parameter does, a copy gives the same logits."""
    net = nn.Flatten()
    feed = InputAdapter(net, (10.0, 20.0), (2.0, 4.0), scale=255.0)
    x = torch.rand(3, 2, 1, 1)
    assert torch.allclose(
        feed(x), torch.stack([(x[:, 0, 0, 0] * 255 - 10) / 2, (x[:, 1, 0, 0] * 255 - 20) / 4], 1)
    )
    assert not list(feed.parameters())
    assert torch.equal(copy.deepcopy(feed)(x), feed(x))
    assert {"mean", "std"} <= feed.state_dict().keys()
    assert feed.net is net


def test_a_feed_that_cannot_be_meant_is_one_line() -> None:
    """A std of 0, lists of two lengths, the wrong number of channels."""
    for mean, std in (((0.5,), (0.0,)), ((0.5, 0.5), (1.0,)), ((), ())):
        with pytest.raises(UsageError, match="std above 0"):
            InputAdapter(nn.Flatten(), mean, std)
    with pytest.raises(UsageError, match="2 channels, the images 3"):
        InputAdapter(nn.Flatten(), (0.5, 0.5), (1.0, 1.0))(torch.rand(1, 3, 2, 2))


def test_torchvision_is_left_alone_where_its_operators_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schemas are declared only when the import stops at them."""
    from airepair.models import vision

    calls: list[str] = []
    monkeypatch.setattr(vision, "_declare", lambda: calls.append("declared"))
    monkeypatch.setattr(vision.importlib, "import_module", lambda name: name)
    assert vision.torchvision.__wrapped__() == "torchvision"
    assert calls == []


def test_torchvision_is_tried_again_where_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The half-imported package is dropped and imported anew after the declaration; another error
    passes through.
    """
    import sys

    from airepair.models import vision

    calls: list[str] = []

    def once(name: str) -> str:
        calls.append("import")
        if calls.count("import") == 1:
            raise RuntimeError("operator torchvision::nms does not exist")
        return name

    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(vision, "_declare", lambda: calls.append("declared"))
    monkeypatch.setattr(vision.importlib, "import_module", once)
    assert vision.torchvision.__wrapped__() == "torchvision"
    assert calls == ["import", "declared", "import"]

    def other(name: str) -> str:
        raise RuntimeError("no space left")

    monkeypatch.setattr(vision.importlib, "import_module", other)
    with pytest.raises(RuntimeError, match="no space"):
        vision.torchvision.__wrapped__()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("file", ["cifar100-resnet18w16-early.pt", "cifar100-resnet18w16-converged.pt"])
def test_a_brought_network_scores_what_its_file_states(file: str) -> None:
    """Recognised from its shapes, fed by its mean and std, right on test and validation to .003."""
    from pathlib import Path

    from airepair import data
    from airepair.evaluation.exam import sit
    from airepair.models.recognise import load

    folder = os.environ.get("AIREPAIR_MODELS")
    if not os.environ.get("AIREPAIR_DATA") or not folder or not (Path(folder) / file).exists():
        pytest.skip(
            f"set AIREPAIR_DATA to the folder of the data sets and AIREPAIR_MODELS to the folder of {file}"
        )
    found = torch.load(Path(folder) / file, weights_only=True)
    module = load(found)
    assert isinstance(module, InputAdapter)
    split = data.load("cifar100", trained_on=found["trained_on"])
    assert sit(module, split.test).accuracy == pytest.approx(found["accuracy"]["test"], abs=0.003)
    assert sit(module, split.validation).accuracy == pytest.approx(
        found["accuracy"]["validation 45000..49999"], abs=0.003
    )
