"""torch through MMdnn: programs in and out, and networks exported to Keras and TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airepair.errors import UsageError
from airepair.formats import open_model

pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation", "ignore:The structure of", "ignore::DeprecationWarning"
)


class Net(nn.Module):
    """What goes wrong: flatten by view, batch norm and ReLU behind it, a residual, channel dropout,
    pooling, grouped convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, momentum=0.2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.pool, self.drop2, self.drop = nn.MaxPool2d(2), nn.Dropout2d(0.2), nn.Dropout(0.3)
        self.norm, self.fc1, self.fc2 = nn.BatchNorm1d(4 * 3 * 2), nn.Linear(24, 7), nn.Linear(7, 5)
        for m in self.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                for t in (m.weight.data, m.bias.data, m.running_mean, m.running_var):
                    t.uniform_(0.5, 1.5)

    def forward(self, x):
        """N x 1 x 12 x 10 -> N x 5."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.drop2(self.pool(x + self.conv2(x)))
        x = torch.relu(self.norm(x.view(x.size(0), -1)))
        return self.fc2(self.drop(torch.tanh(self.fc1(x))))


def random_images(n: int = 32) -> torch.Tensor:
    return torch.randn(n, 1, 12, 10, generator=torch.Generator().manual_seed(3))


def test_ir_and_back_is_the_same_network() -> None:
    """torch -> IR -> torch: equal logits, same parameter count, bit-equal weights in the IR,
    momentum and dropout kept.
    """
    from airepair.formats.mmdnn.from_torch import from_torch
    from airepair.formats.mmdnn.ir import renamed
    from airepair.formats.mmdnn.to_torch import arrays_of, to_torch

    net = Net().eval()
    ir = renamed(from_torch(net, (1, 12, 10)).model)
    again = to_torch(ir)
    assert (again(random_images()) - net(random_images())).abs().max() < 1e-5
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in net.parameters())
    back = arrays_of(again, ir)
    assert all(np.array_equal(a, back[n][k]) for n, kinds in ir.weights.items() for k, a in kinds.items())
    found = list(again.modules())
    assert any(isinstance(m, nn.Dropout2d) for m in found)
    assert any(isinstance(m, nn.BatchNorm2d) and m.momentum == 0.2 for m in found)
    torch.nn.functional.cross_entropy(
        again.train()(random_images()), torch.zeros(32, dtype=torch.long)
    ).backward()
    assert all(p.grad is not None for p in again.parameters())


@pytest.mark.parametrize("kind", ["traced", "scripted", "exported"])
def test_programs_come_back_as_programs(tmp_path: Path, kind: str) -> None:
    """A program is refused without trust; trusted, it becomes layers, and the repair comes back as
    the same kind of program.
    """
    net = Net().eval()
    path, out = tmp_path / "in.pt2", tmp_path / "out.pt2"
    if kind == "exported":
        torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 12, 10),)), path)
    else:
        torch.jit.save(
            torch.jit.trace(net, random_images()) if kind == "traced" else torch.jit.script(net), str(path)
        )
    with pytest.raises(UsageError, match="--trust-pickle"):
        open_model(path)
    opened = open_model(path, trust_pickle=True, shape=(1, 12, 10))
    assert opened.fidelity is not None
    assert opened.fidelity.faithful
    assert any(isinstance(m, nn.Conv2d) for m in opened.module.modules())
    with torch.no_grad():
        for p in opened.module.parameters():
            p.mul_(1.5)
    assert opened.write(opened.module, out).faithful
    again = torch.export.load(out).module() if kind == "exported" else torch.jit.load(str(out))
    x = random_images(1)
    assert (again(x) - opened.module(x)).abs().max() < 1e-5
    assert (again(x) - net(x)).abs().max() > 1e-2


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_torch_to_keras(tmp_path: Path, ending: str) -> None:
    """A torch network written as a Keras file answers the same, and opens again as the same network."""
    pytest.importorskip("h5py")
    from airepair.formats.export import export

    net = Net().eval()
    assert export(net, (1, 12, 10), tmp_path / f"net.{ending}").faithful
    opened = open_model(tmp_path / f"net.{ending}")
    assert (opened.module(random_images()) - net(random_images())).abs().max() < 1e-4
    assert sum(p.numel() for p in opened.module.parameters()) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("ending", ["keras", pytest.param("pb", marks=pytest.mark.slow)])
def test_this_projects_own_resnet20_goes_out_and_comes_back(tmp_path: Path, ending: str) -> None:
    """Its shortcuts take every second row and column and pad the channels with zeros: as layers
    that any Keras has; a repair is written back.
    """
    pytest.importorskip("h5py")
    from airepair.formats.export import export
    from airepair.models import build

    torch.manual_seed(0)
    net = build("resnet20w4", "", 10, (3, 32, 32)).eval()
    x = torch.randn(5, 3, 32, 32)
    assert export(net, (3, 32, 32), tmp_path / f"net.{ending}").faithful
    opened = open_model(tmp_path / f"net.{ending}")
    assert (opened.module(x) - net(x)).abs().max() < 1e-4
    assert sum(p.numel() for p in opened.module.parameters()) == sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        for p in opened.module.parameters():
            p.mul_(1.05)
    fidelity = opened.write(opened.module, tmp_path / f"out.{ending}")
    assert fidelity is not None
    assert fidelity.faithful


class Odd(nn.Module):
    """A network with one operation that is not converted."""

    def __init__(self, change) -> None:
        super().__init__()
        self.conv, self.fc, self.change = nn.Conv2d(1, 2, 3), nn.Linear(2, 3), change

    def forward(self, x):
        """N x 1 x 8 x 8 -> N x 3."""
        return self.fc(self.change(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x: x[:, :, 1:], "only every second row or column"),
        (lambda x: x[:, :2:2].repeat(1, 2, 1, 1), "only every second row or column"),
        (lambda x: nn.functional.gelu(x, approximate="tanh"), "approximate='tanh'; the exact one is"),
        (lambda x: nn.functional.pad(x, (1, 1), value=3.0), "only padding of images with zeros"),
        (lambda x: nn.functional.pad(x, (-1, -1)), "only padding of images with zeros"),
    ],
)
def test_slices_and_paddings_that_are_others_are_named(change, why: str) -> None:
    """A crop, a slice of the channels, another GELU, padding with numbers: refused, not converted
    to something near.
    """
    from airepair.formats.mmdnn.from_torch import from_torch

    with pytest.raises(UsageError, match=why):
        from_torch(Odd(change).eval(), (1, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["net.pb", "net"])
def test_torch_to_tensorflow(tmp_path: Path, name: str) -> None:
    """The same as a frozen graph and as a SavedModel, which opens again and takes a repair."""
    from airepair.formats.export import export

    net = Net().eval()
    assert export(net, (1, 12, 10), tmp_path / name).faithful
    opened = open_model(tmp_path / name)
    assert (opened.module(random_images()) - net(random_images())).abs().max() < 1e-4
    with torch.no_grad():
        for p in opened.module.parameters():
            p.mul_(1.1)
    assert opened.write(opened.module, tmp_path / ("out" + Path(name).suffix)).faithful


def test_what_is_not_converted_is_named(tmp_path: Path) -> None:
    """An operation without a counterpart is refused by the name of its layer."""
    from airepair.formats.mmdnn.from_torch import from_torch

    with pytest.raises(UsageError, match=r"'0'.*conv_transpose"):
        from_torch(nn.Sequential(nn.ConvTranspose2d(1, 1, 2), nn.Flatten(), nn.Linear(121, 2)), (1, 10, 10))


def test_an_unfaithful_conversion_names_the_first_layer(tmp_path: Path, monkeypatch) -> None:
    """Where the conversion goes wrong (here: the published flatten order), opening fails and names
    the layer that reads the columns.
    """
    from airepair.formats.extra_layers import ChannelsLastFlatten

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 8, 8),)), tmp_path / "net.pt2")
    assert open_model(tmp_path / "net.pt2", trust_pickle=True).fidelity.faithful
    monkeypatch.setattr(ChannelsLastFlatten, "forward", lambda self, x: x.flatten(1))
    with pytest.raises(UsageError, match=r"not the same function.*first layer that differs: '3' \(linear"):
        open_model(tmp_path / "net.pt2", trust_pickle=True)


def test_the_data_sets_images_are_checked_too(tmp_path: Path) -> None:
    """Images that are given join the random inputs; for a file that scales 0..255 itself they come
    as 0..255; of another size they do not.
    """
    from airepair.formats.extra_layers import Scaled
    from airepair.formats.fidelity import check_inputs

    net = Scaled(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), (1 / 255,), (0.0,)).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 8, 8),)), tmp_path / "net.pt2")
    images = np.ones((40, 1, 8, 8), "f")
    opened = open_model(tmp_path / "net.pt2", trust_pickle=True, images=images)
    assert opened.fidelity.n == 296
    assert opened.write(opened.module, tmp_path / "out.pt2").n == 296
    assert check_inputs((1, 8, 8), images, opened.feed.largest)[-1].max() == 255
    assert check_inputs((1, 8, 8), images, 1.0)[-1].max() == 1
    assert len(check_inputs((1, 9, 9), images)) == 256
