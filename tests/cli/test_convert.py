"""`airepair convert`: from one format to another, with the fidelity printed."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.cli.main import main
from airepair.formats import open_model
from airepair.formats.extra_layers import Scaled
from airepair.models import build

pytest.importorskip("mmdnn")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The state dict of the digits network, with batch-norm statistics that are not trivial."""
    torch.save(net().state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def net() -> nn.Module:
    torch.manual_seed(0)
    module = build("digits/cnn", "", 10, (1, 8, 8))
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            for t in (m.weight.data, m.bias.data, m.running_mean, m.running_var):
                t.uniform_(0.5, 1.5)
    return module.eval()


def images(n: int = 16) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_torch_to_keras_and_back(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare state dict becomes a Keras file and that a TorchScript file that plain torch runs: the
    same logits, the same parameters.
    """
    pytest.importorskip("h5py")
    assert main(["convert", str(weights), str(tmp_path / "net.keras")]) == 0
    said = capsys.readouterr().out
    assert f"{sum(p.numel() for p in net().parameters()):,} parameters" in said
    assert "written: max difference" in said
    assert "256 inputs" in said
    assert main(["convert", str(tmp_path / "net.keras"), str(tmp_path / "back.pt")]) == 0
    back = torch.jit.load(str(tmp_path / "back.pt")).eval()
    assert (back(images()) - net()(images())).abs().max() < 1e-4
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in net().parameters())


OWN = """
import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3), nn.Linear(108, classes)
    def forward(self, x):
        return self.last(torch.relu(self.first(x)).flatten(1))
"""


def test_a_network_of_ones_own_is_converted_by_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--net_arch file.py:Class` for a bare state dict, and for a pickled module of that class:
    without it both are refused, and say so.
    """
    pytest.importorskip("h5py")
    from airepair.models.user_code import own_code

    (tmp_path / "net_of_my_own.py").write_text(OWN)
    code = f"{tmp_path / 'net_of_my_own.py'}:Mine"
    module = own_code(code).network(6)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.save(module, tmp_path / "whole.pt")
    for name in ("weights", "whole"):
        words = ["convert", str(tmp_path / f"{name}.pt"), str(tmp_path / f"{name}.keras"), "--shape", "1,8,8"]
        assert main(words) == 2
        assert "--net_arch" in capsys.readouterr().err
        assert main([*words, "--net_arch", code]) == 0
        again = open_model(tmp_path / f"{name}.keras")
        assert (again.module(images()) - module(images())).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"logits": x.flatten(1)}', "the network returns dict; accepted: a tensor of logits"),
        ("[][x.shape[0]]", "does not take such images: IndexError"),
    ],
)
def test_a_network_without_an_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: str, said: str
) -> None:
    """It returns something else than a tensor, or its code raises."""
    code = f"{tmp_path / 'net_without_answer.py'}:Mine"
    Path(code.removesuffix(":Mine")).write_text(
        OWN.replace("self.last(torch.relu(self.first(x)).flatten(1))", answer)
    )
    from airepair.models.user_code import own_code

    torch.save(own_code(code).network(6).state_dict(), tmp_path / "weights.pt")
    words = ["convert", str(tmp_path / "weights.pt"), str(tmp_path / "out.onnx"), "--shape", "1,8,8"]
    assert main([*words, "--net_arch", code]) == 2
    assert said in capsys.readouterr().err


def test_what_torch_cannot_export_is_one_line(tmp_path: Path) -> None:
    """A network whose way depends on its numbers is no exported program: torch's own error, without
    its graphs and its traceback.
    """
    from airepair.errors import UsageError
    from airepair.formats.export import export

    class Depends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if bool((x > 0).all()) else -x.flatten(1)

    with pytest.raises(UsageError, match="torch cannot write the network as torch exported program") as error:
        export(Depends(), (1, 8, 8), tmp_path / "net.pt2")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "net.pt2").exists()


@pytest.mark.parametrize("ending", ["keras", "onnx", "pt2"])
def test_the_scaling_of_a_file_stays_in_what_is_written(tmp_path: Path, ending: str) -> None:
    """A program that standardises its images itself is repaired without that, and converted with it."""
    needed = "onnx2torch" if ending == "onnx" else "h5py"
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (pip install 'airepair[onnx,keras]')")
    whole = Scaled(net(), (2.0,), (-0.25,)).eval()
    torch.jit.save(torch.jit.script(whole), str(tmp_path / "net.pt"))
    opened = open_model(tmp_path / "net.pt", trust_pickle=True, shape=(1, 8, 8))
    assert opened.feed is not None
    assert (opened.feed.scale, opened.feed.offset) == ((2.0,), (-0.25,))
    assert main(["convert", str(tmp_path / "net.pt"), str(tmp_path / f"out.{ending}"), "--trust-pickle"]) == 0
    again = open_model(tmp_path / f"out.{ending}", trust_pickle=True)
    assert again.feed is not None
    assert again.feed.scale == pytest.approx((2.0,))
    assert (again.module(2 * images() - 0.25) - whole(images())).abs().max() < 1e-4
    assert sum(p.numel() for p in again.module.parameters()) == sum(p.numel() for p in net().parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["net.pb", "net"])
def test_torch_to_tensorflow_and_back(weights: Path, tmp_path: Path, name: str) -> None:
    """The same through a frozen graph and a SavedModel."""
    pytest.importorskip("tensorflow")
    assert main(["convert", str(weights), str(tmp_path / name), "--shape", "1,8,8"]) == 0
    assert main(["convert", str(tmp_path / name), str(tmp_path / "back.pt2")]) == 0
    back = torch.export.load(tmp_path / "back.pt2").module()
    assert (back(images()) - net()(images())).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.pt", "net.xyz"), "unknown ending '.xyz'"),
        (("net.pt", "net.pt"), "not overwritten"),
        (("absent.pt", "out.h5"), "no such file"),
        (("net.pt", "no/out.h5"), "no folder"),
        (("net.pt", "out.h5", "--shape", "8x8"), "--shape '8x8'"),
        (("net.pt", "out.h5", "--net_arch", "resnet"), "do not fit"),
        (("script.pt", "out.h5"), "--trust-pickle"),
        (("deconv.pt", "out.keras", "--trust-pickle", "--shape", "1,8,8"), "conv_transpose"),
        (("text.h5", "out.pt"), "none of the formats"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    weights: Path, tmp_path: Path, words, said: str, capsys, monkeypatch
) -> None:
    """Exit code 2, the reason, and nothing written."""
    monkeypatch.chdir(tmp_path)
    deconvolution = nn.Sequential(nn.ConvTranspose2d(1, 1, 2), nn.Flatten(), nn.Linear(81, 2)).eval()
    torch.jit.save(torch.jit.script(net()), "script.pt")
    torch.jit.save(torch.jit.script(deconvolution), "deconv.pt")
    Path("text.h5").write_text("not a model")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["convert", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
