"""What a network ends in: a softmax or log-softmax is taken off for the repair and stays in the
file, in every format.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from airepair.case import Case
from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.formats import open_model
from airepair.formats.at_logits import BeforeSoftmax, at_logits
from airepair.formats.heads import head_in, headed
from airepair.formats.model_file import ModelFile
from airepair.methods import build as method
from airepair.models.layers import final_site
from airepair.subjects.user_model.input_spec import ModelSource
from airepair.subjects.user_model.load import bring
from airepair.testing.cells import prepare, run

CPU = torch.device("cpu")
NET = """
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        x = self.fc(F.dropout(x.mean((2, 3)), .5, self.training))
        return END
"""


class Ending(nn.Module):
    """A small network that ends in what it is told."""

    def __init__(self, end: Callable[[nn.Module, Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.end = nn.Linear(6, 8), nn.Linear(8, 5), end
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """N x 6 -> N x 5."""
        attention = F.softmax(self.first(x), 1)
        return self.end(self, self.last(attention * self.first(x)))


ENDS = {
    "a layer": (lambda net, x: net.layer(x), nn.Softmax(1), "softmax"),
    "a layer of logarithms": (lambda net, x: net.layer(x), nn.LogSoftmax(1), "log_softmax"),
    "a call": (lambda net, x: F.softmax(x, dim=-1), None, "softmax"),
    "a method": (lambda net, x: x.log_softmax(1), None, "log_softmax"),
    "torch's": (lambda net, x: torch.softmax(input=x, dim=1), None, "softmax"),
    "the logarithm of a call": (lambda net, x: torch.log(torch.softmax(x, 1)), None, "log_softmax"),
    "a call in evaluation only": (lambda net, x: x if net.training else F.softmax(x, 1), None, "softmax"),
}
X = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))


def opened(net: nn.Module, written: list[nn.Module]) -> ModelFile:
    return ModelFile(net.eval(), "torch", Path("net.pt"), lambda repaired, out: written.append(repaired))


@pytest.mark.parametrize("name", ENDS)
def test_a_softmax_at_the_end_is_taken_off_where_the_structure_shows_it(name: str) -> None:
    """A layer or a call: the logits, in evaluation and in training; attention inside stays; what is
    written is the whole network.
    """
    end, layer, head = ENDS[name]
    net, written = Ending(end, layer), []
    whole = opened(net, written)
    found = at_logits(whole, lambda module: module(X), "net.pt")
    assert found.module is not net
    logits = found.module(X).detach()
    assert np.allclose(headed(logits.numpy(), head), net(X).detach().numpy(), atol=1e-6)
    assert (logits.sum(1) - 1).abs().max() > 0.1
    assert torch.equal(found.module.train()(X), logits)
    assert "stays in the file" in found.notes[-1]
    site = final_site(found.module, X)
    with torch.no_grad():
        site.layer(found.module).weight.mul_(3)
    found.write(found.module, "out.pt")
    (back,) = written
    assert list(back.state_dict()) == list(net.state_dict())
    assert torch.equal(back.last.weight, 3 * net.last.weight)
    assert head_in(back(X).detach().numpy()) == head


def test_a_network_of_logits_stays_as_it_is() -> None:
    """Also one that answers with positive numbers, or with numbers whose sum is 1 for one image."""
    for end in (lambda net, x: x, lambda net, x: x.relu() + 0.3, lambda net, x: x - x[:1].mean() + 0.2):
        whole = opened(Ending(end), [])
        assert at_logits(whole, lambda module: module(X), "net.pt") is whole


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            lambda net, x: x.exp() / x.exp().sum(1, keepdim=True),
            "answers with probabilities, and a repair needs the logits before its softmax",
        ),
        (
            lambda net, x: x - x.exp().sum(1, keepdim=True).log(),
            "log-probabilities, and a repair needs the logits before its log-softmax",
        ),
        (lambda net, x: F.softmax(F.softmax(x, 1), 1), "answers with probabilities"),
    ],
)
def test_probabilities_of_unknown_origin_are_refused_with_what_to_do(
    end: Callable[[nn.Module, Tensor], Tensor], said: str
) -> None:
    """A softmax by hand, or two of them: nothing says where the logits are."""
    with pytest.raises(UsageError, match=rf"{said}.*accepted: a network whose forward returns the logits"):
        at_logits(opened(Ending(end), []), lambda module: module(X), "net.pt")


def test_a_network_that_returns_no_tensor_stays_as_it_is() -> None:
    """Who runs it says what it returns; without its softmax it may return none, too."""
    whole = opened(Ending(lambda net, x: {"logits": x}), [])
    assert at_logits(whole, lambda module: module(X), "net.pt") is whole
    parts = Ending(
        lambda net, x: net.layer(x) if isinstance(net.layer, nn.Softmax) else (x, x), nn.Softmax(1)
    )
    found = at_logits(opened(parts, []), lambda module: module(X), "net.pt")
    assert isinstance(found.module, BeforeSoftmax), "not the one whose layer is left out"


@pytest.fixture
def colours(tmp_path: Path) -> str:
    """3 x 4 x 4 images whose brightest channel is the class, some of them hard."""
    generator = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = generator.integers(0, 160, (600, 4, 4, 3), dtype=np.uint8)
    x[np.arange(600), :, :, y] += 20
    np.savez(tmp_path / "colours.npz", x_train=x, y_train=y)
    return f"npz:{tmp_path / 'colours.npz'}"


WEIGHTS = {"fc.weight": torch.eye(3) * 4 + 2 * torch.eye(3).roll(1, 0), "fc.bias": torch.zeros(3)}


@pytest.mark.parametrize("end", ["F.softmax(x, 1)", "F.log_softmax(x, dim=1)"])
def test_own_code_that_ends_in_a_softmax_is_repaired_like_one_that_does_not(
    tmp_path: Path, colours: str, end: str
) -> None:
    """The same exam as without it, also of the constraint; a method that needs the last layer finds
    it; weights come back under their names.
    """
    exams = {}
    for name, ending in (("plain", "x"), ("ending", end)):
        torch.save(WEIGHTS, tmp_path / f"{name}.pt")
        (tmp_path / f"{name}.py").write_text(NET.replace("END", ending))
        subject, back = bring(
            ModelSource(tmp_path / f"{name}.pt", f"{tmp_path / name}.py:Net"),
            colours,
            profile="none",
            device=CPU,
        )
        exams[name] = sit(subject.module, subject.dataset.validation)
    assert torch.allclose(exams["ending"].logits, exams["plain"].logits)
    assert any("stays in the file" in note for note in subject.origin["notes"])
    repaired = run(prepare(Case("colours", "net", "minimal", 0), subject, method("minimal", {})))
    assert repaired.record.status == "repaired"
    assert repaired.module is not None
    back.write(repaired.module, tmp_path / "back.pt")
    after = torch.load(tmp_path / "back.pt", weights_only=True)
    assert list(after) == list(WEIGHTS)
    assert not torch.equal(after["fc.weight"], WEIGHTS["fc.weight"])


@pytest.mark.parametrize(("end", "kind"), [('{"logits": x}', "dict"), ("(x, x)", "tuple")])
def test_code_that_returns_no_tensor_is_refused_by_what_it_returns(
    tmp_path: Path, colours: str, end: str, kind: str
) -> None:
    """Before anything is made of it."""
    torch.save(WEIGHTS, tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(NET.replace("END", end))
    model = ModelSource(tmp_path / "net.pt", f"{tmp_path / 'net'}.py:Net")
    with pytest.raises(UsageError, match=f"the module returns {kind}; accepted: a tensor of logits"):
        bring(model, colours, profile="none", device=CPU)


def test_a_pickled_module_that_ends_in_a_softmax_gives_logits(tmp_path: Path, colours: str) -> None:
    """And comes back as the same module, its softmax included."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.Softmax(1))
    net.load_state_dict({f"2.{k.removeprefix('fc.')}": v for k, v in WEIGHTS.items()})
    torch.save(net, tmp_path / "net.pt")
    subject, back = bring(ModelSource(tmp_path / "net.pt"), colours, profile="none", device=CPU)
    assert not head_in(sit(subject.module, subject.dataset.validation).logits.numpy())
    back.write(subject.module, tmp_path / "back.pt")
    again = open_model(tmp_path / "back.pt").module
    assert isinstance(again[3], nn.Softmax)


@pytest.mark.parametrize("kind", ["scripted", "exported"])
@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_programs_are_cut_at_their_logits(tmp_path: Path, kind: str, end: nn.Module) -> None:
    """The converted network answers with logits, and the program that is written with what it ended in."""
    pytest.importorskip("mmdnn")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4), end).eval()
    x = torch.randn(9, 1, 8, 8)
    if kind == "exported":
        torch.export.save(torch.export.export(net, (x[:2],)), tmp_path / "in.pt2")
    else:
        torch.jit.save(torch.jit.script(net), str(tmp_path / "in.pt2"))
    found = open_model(tmp_path / "in.pt2", trust_pickle=True, shape=(1, 8, 8))
    assert torch.allclose(found.module(x), net[:-1](x), atol=1e-5)
    assert any("stays in the file" in note for note in found.notes)
    fidelity = found.write(found.module, tmp_path / "out.pt2")
    assert fidelity is not None
    assert fidelity.faithful


def test_a_network_before_its_softmax_is_converted(tmp_path: Path) -> None:
    """What runs behind the logits, and is returned by nobody, is no part of what is written."""
    pytest.importorskip("keras")
    pytest.importorskip("mmdnn")
    from airepair.formats.export import export

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 3, 3), nn.Linear(108, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.log(torch.softmax(self.fc(self.conv(x).relu().flatten(1)), 1))

    x = torch.randn(9, 1, 8, 8)
    found = at_logits(opened(Net(), []), lambda module: module(x), "net.pt")
    assert export(found.module, (1, 8, 8), tmp_path / "out.keras").faithful


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("layer", [True, False])
def test_a_keras_file_keeps_its_log_softmax(tmp_path: Path, ending: str, layer: bool) -> None:
    """As the activation of its last layer, or a layer of its own; the configuration stays as it is."""
    pytest.importorskip("mmdnn")
    pytest.importorskip("keras")
    from airepair.formats.keras.files import load_keras, outputs

    keras = load_keras()
    layers = keras.layers
    last = (
        [layers.Dense(5), layers.Activation("log_softmax")]
        if layer
        else [layers.Dense(5, activation="log_softmax")]
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(3, 3, activation="gelu"), layers.Flatten(), *last]
    )
    path, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    model.save(path)
    found = open_model(path)
    x = torch.randn(9, 1, 8, 8)
    assert np.allclose(
        headed(found.module(x).detach().numpy(), "log_softmax"), outputs(keras, model, x.numpy()), atol=1e-5
    )
    assert not head_in(found.module(x).detach().numpy())
    assert "the final log-softmax stays in the file" in " ".join(found.notes)
    with torch.no_grad():
        for p in found.module.parameters():
            p.mul_(1.1)
    fidelity = found.write(found.module, out)
    assert fidelity is not None
    assert fidelity.faithful
    assert head_in(outputs(keras, keras.models.load_model(out, compile=False), x.numpy())) == "log_softmax"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["LogSoftmax", "Softmax"])
def test_a_frozen_graph_keeps_its_head(tmp_path: Path, end: str) -> None:
    """An operation behind the logits of a graph: taken off, and there again in what is written."""
    pytest.importorskip("mmdnn")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed (pip install 'airepair[tf]')")
    from airepair.formats.export import export

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)).eval()
    export(net, (1, 8, 8), tmp_path / "logits.pb")
    code = (
        "import sys, tensorflow as tf; from pathlib import Path; "
        "g = tf.compat.v1.GraphDef.FromString(Path(sys.argv[1]).read_bytes());"
        "n = g.node.add(name='end', op=sys.argv[3], input=['logits']); n.attr['T'].type = 1; "
        "Path(sys.argv[2]).write_bytes(g.SerializeToString())"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "logits.pb"), str(tmp_path / "in.pb"), end], check=True
    )
    found = open_model(tmp_path / "in.pb")
    x = torch.randn(9, 1, 8, 8)
    assert torch.allclose(found.module(x), net(x), atol=1e-4)
    assert f"the final {end.lower().replace('logs', 'log-s')} stays in the file" in " ".join(found.notes)
    fidelity = found.write(found.module, tmp_path / "out.pb")
    assert fidelity is not None
    assert fidelity.faithful
    assert end.encode() in (tmp_path / "out.pb").read_bytes()
