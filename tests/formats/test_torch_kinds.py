"""torch files as training scripts leave them: classes of a script, counters of one number, several
sets of weights, figures beside them.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from airepair.errors import UsageError
from airepair.formats import open_model
from airepair.formats.fidelity import check_inputs
from airepair.models import checkpoint
from airepair.models.recognise import load
from airepair.models.user_code import own_code
from airepair.subjects.user_model.input_spec import ModelSource
from airepair.subjects.user_model.load import bring

SCRIPT = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.fc = nn.Linear(72, 4)

    def forward(self, x):
        return self.fc(self.block(x).flatten(1))

if __name__ == "__main__":
    import sys
    torch.manual_seed(0)
    torch.save(Net().eval(), sys.argv[1])
"""


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that a script pickled: its classes are `__main__.Net` and `__main__.Block`; the
    script lies beside it.
    """
    folder = tmp_path_factory.mktemp("script")
    (folder / "train.py").write_text(SCRIPT)
    subprocess.run([sys.executable, str(folder / "train.py"), str(folder / "net.pt")], check=True)
    return folder / "net.pt"


def pickled_names(path: Path) -> set[str]:
    return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))


def test_a_class_of_a_script_is_refused_with_the_three_ways_out(pickled: Path) -> None:
    """Code of your own by name, trust, or a state dict."""
    with pytest.raises(
        UsageError,
        match=r"__main__\.Block, __main__\.Net.*--net_arch file\.py:Net; .*--trust-pickle; better: "
        r"save the state",
    ):
        open_model(pickled)


@pytest.mark.parametrize("trusted", [False, True])
def test_naming_the_script_is_enough(pickled: Path, tmp_path: Path, trusted: bool) -> None:
    """`--net_arch train.py:Net`, with trust or without; what is written has the class under the
    name that it had, and the script's own loads it.
    """
    own = own_code(f"{pickled.parent / 'train.py'}:Net")
    opened = open_model(pickled, classes=own.layers, trust_pickle=trusted)
    with torch.no_grad():
        opened.module.fc.bias.add_(1)
    opened.write(opened.module, tmp_path / "out.pt")
    assert pickled_names(tmp_path / "out.pt") == pickled_names(pickled)
    again = open_model(tmp_path / "out.pt", classes=own.layers).module
    assert torch.equal(again.fc.bias, opened.module.fc.bias)
    assert "Net" not in vars(sys.modules["__main__"])
    assert {layer.__module__ for layer in own.layers} == {"train"}


def test_classes_of_a_module_that_is_not_here_are_found_too(pickled: Path, tmp_path: Path) -> None:
    """`project.models.Net`, of a project that this machine does not have."""
    own = own_code(f"{pickled.parent / 'train.py'}:Net")
    names = {f"project.models.{c.__name__}": c for c in own.layers}
    with checkpoint.pickled_as(names):
        torch.save(own.factory(), tmp_path / "net.pt")
    assert "project" not in sys.modules
    opened = open_model(tmp_path / "net.pt", classes=own.layers, trust_pickle=True)
    opened.write(opened.module, tmp_path / "out.pt")
    assert pickled_names(tmp_path / "out.pt") >= names.keys()


def test_trust_alone_says_what_else_is_needed(pickled: Path) -> None:
    """The class is in a script that nobody named."""
    with pytest.raises(
        UsageError,
        match=r"needs code that is not found here: .*Can't get attribute.*name it too: "
        r"--net_arch file\.py:Net",
    ):
        open_model(pickled, trust_pickle=True)


def test_a_layer_s_name_is_not_taken_over(tmp_path: Path) -> None:
    """A class of the user's own called Linear does not stand for torch's."""

    class Linear(nn.Module):
        pass

    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net.pt")
    assert checkpoint.names_of(tmp_path / "net.pt", (Linear,)) == {}


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_counter_may_be_stored_as_one_number(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """num_batches_tracked of shape (1,), as some tools write it: read, and written in its shape;
    another shape is a difference.
    """
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.BatchNorm1d(128),
    )
    net.extend([nn.ReLU(), nn.Linear(128, 10)])
    state = {
        k: v.reshape(shape) if k.endswith("num_batches_tracked") else v for k, v in net.state_dict().items()
    }
    torch.save(state, tmp_path / "net.pt")
    opened = open_model(tmp_path / "net.pt", architecture=lambda w: load(w, shape=(1, 28, 28)))
    opened.write(opened.module, tmp_path / "out.pt")
    assert {k: v.shape for k, v in torch.load(tmp_path / "out.pt", weights_only=True).items()} == {
        k: v.shape for k, v in state.items()
    }
    torch.save({**state, "2.num_batches_tracked": torch.zeros(2, dtype=torch.long)}, tmp_path / "net.pt")
    with pytest.raises(UsageError, match="num_batches_tracked"):
        open_model(tmp_path / "net.pt", architecture=lambda w: load(w, "fc", shape=(1, 28, 28)))


class Small(nn.Module):
    """Ten numbers to three."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x 10 -> N x 3."""
        return self.fc(x)


def small(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    net = Small()
    net.load_state_dict(dict(tensors))
    return net


def saved(path: Path, dtype: torch.dtype) -> Path:
    state = {k: v.to(dtype) for k, v in Small().state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_coarser_file_says_what_it_loses_of_a_repair(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    """Its type stays, and the fidelity is that of the file as it is read again."""
    opened = open_model(saved(tmp_path / f"in{suffix}", dtype), architecture=small)
    with torch.no_grad():
        opened.module.fc.weight.add_(1e-4)
    found = opened.write(opened.module, tmp_path / f"out{suffix}")
    assert found is not None
    assert not found.faithful
    held = open_model(tmp_path / f"out{suffix}", architecture=small).module
    x = torch.from_numpy(check_inputs((10,)))
    lost = float((held(x) - opened.module(x)).detach().abs().max())
    assert found.difference == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_file_that_holds_every_number_is_as_it_is(tmp_path: Path, dtype: torch.dtype) -> None:
    """A step that bfloat16 has too: nothing is lost, and nothing compared."""
    opened = open_model(saved(tmp_path / "in.pt", dtype), architecture=small)
    with torch.no_grad():
        opened.module.fc.bias.fill_(0.5)
    assert opened.write(opened.module, tmp_path / "out.pt") is None
    assert open_model(tmp_path / "out.pt", architecture=small).module.fc.bias.tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_pickled_module_of_other_numbers_is_repaired_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    """It is written in its own type, and a coarser one says what it loses."""
    torch.save(nn.Sequential(nn.Linear(10, 3)).to(dtype), tmp_path / "in.pt")
    opened = open_model(tmp_path / "in.pt")
    assert opened.module(torch.zeros(1, 10)).dtype == torch.float32
    with torch.no_grad():
        opened.module[0].weight.add_(1e-4)
    lost = opened.write(opened.module, tmp_path / "out.pt")
    assert (lost is None or lost.faithful) == (dtype == torch.float64)
    written = torch.load(tmp_path / "out.pt", weights_only=False)[0].weight
    assert torch.equal(written, opened.module[0].weight.to(dtype))


def test_a_repair_that_the_file_s_names_do_not_reach_is_refused(tmp_path: Path) -> None:
    """Code that makes its weight of the file's: the file that was written answers as before."""

    def doubled(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        return small({"fc.weight": tensors["fc.weight"] * 2 + 1, "fc.bias": tensors["fc.bias"]})

    opened = open_model(saved(tmp_path / "in.pt", torch.float32), architecture=doubled)
    with torch.no_grad():
        opened.module.fc.weight.add_(1)
    with pytest.raises(UsageError, match=r"out\.pt: the converted network is not the same function"):
        opened.write(opened.module, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x 10 -> N x 10."""
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("apart", [False, True])
def test_a_shared_weight_is_repaired_under_each_of_its_names(
    tmp_path: Path, prefix: str, apart: bool
) -> None:
    """Whether the file stores its numbers once or once for each name, which a prefix may begin."""

    def tied(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        net = Tied()
        net.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items()})
        return net

    state = {prefix + k: v.clone() if apart else v for k, v in Tied().state_dict().items()}
    torch.save(state, tmp_path / "in.pt")
    opened = open_model(tmp_path / "in.pt", architecture=tied)
    with torch.no_grad():
        opened.module.a.weight.add_(1)
    assert opened.write(opened.module, tmp_path / "out.pt") is None
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert [torch.equal(v, opened.module.a.weight) for v in found.values()] == [True, True]


def test_a_weight_that_the_file_stores_once_is_repaired_under_names_that_nobody_loads(tmp_path: Path) -> None:
    """Another reader may load that name; equal numbers that are stored twice are another weight."""
    state = {"fc.weight": torch.ones(3, 10), "fc.bias": torch.zeros(3), "copy": torch.ones(3, 10)}
    torch.save({**state, "out.weight": state["fc.weight"]}, tmp_path / "in.pt")
    opened = open_model(
        tmp_path / "in.pt", architecture=lambda w: small({k: w[k] for k in ("fc.weight", "fc.bias")})
    )
    with torch.no_grad():
        opened.module.fc.weight.add_(1)
    opened.write(opened.module, tmp_path / "out.pt")
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert [float(found[k].mean()) for k in ("fc.weight", "out.weight", "copy")] == [2, 2, 1]


def average(path: Path, **beside: object) -> Path:
    """A checkpoint with a network of random weights and the moving average of better ones; both
    answer with the brightest of 3 channels.
    """
    good, bad = (
        {"fc.weight": torch.eye(3) * 20, "fc.bias": torch.zeros(3)},
        {"fc.weight": torch.randn(3, 3), "fc.bias": torch.zeros(3)},
    )
    optimizer = torch.optim.SGD(nn.Linear(3, 3).parameters(), momentum=0.9, lr=0.1).state_dict()
    torch.save({"model": bad, "model_ema": {"module": good}, "optimizer": optimizer, **beside}, path)
    path.with_suffix(".py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        "
        "super().__init__()\n        self.fc = nn.Linear(3, 3)\n"
        "    def forward(self, x):\n        return self.fc(x.mean((2, 3)))\n"
    )
    return path


def test_of_several_sets_of_weights_the_record_says_which_it_was(tmp_path: Path) -> None:
    """And how to take another one, which then is the one that is repaired and written; a key
    without weights is refused.
    """
    path = average(tmp_path / "a.pt")
    y = np.arange(60) % 3
    x = np.full((60, 4, 4, 3), 40, np.uint8)
    x[np.arange(60), :, :, y] = 200
    np.savez(tmp_path / "colours.npz", x_train=x, y_train=y)
    colours, net = f"npz:{tmp_path / 'colours.npz'}", f"{path.with_suffix('.py')}:Net"
    subject, back = bring(
        ModelSource(path, net, weights="model_ema"), colours, profile="none", device=torch.device("cpu")
    )
    assert (
        "of its weights model_ema, model those of model_ema are repaired; --weights model takes others"
        in subject.origin["notes"]
    )
    with torch.no_grad():
        subject.module.fc.bias.add_(1)
    back.write(subject.module, tmp_path / "out.pt")
    before, after = (torch.load(p, weights_only=True) for p in (path, tmp_path / "out.pt"))
    assert torch.equal(after["model"]["fc.weight"], before["model"]["fc.weight"])
    assert after["model_ema"]["module"]["fc.bias"].tolist() == [1, 1, 1]
    path.with_suffix(".toml").write_text('weights = "model_ema"\n')
    subject, _ = bring(ModelSource(path, net), colours, profile="none", device=torch.device("cpu"))
    assert subject.module.fc.weight[0, 0] == 20
    with pytest.raises(UsageError, match="holds no weights under 'optimizer'; accepted: model, model_ema"):
        bring(
            ModelSource(path, net, weights="optimizer"), colours, profile="none", device=torch.device("cpu")
        )


def test_what_a_repair_makes_untrue_is_announced(tmp_path: Path) -> None:
    """Figures of the old weights, the optimiser, the other weights; not what stays true."""
    path = average(
        tmp_path / "a.pt",
        best_prec1=93.1,
        epoch=7,
        arch="mine",
        test_acc=0.5,
        mean=[0.5],
        std=[0.5],
        classes=3,
    )
    own = own_code(f"{path.with_suffix('.py')}:Net")
    opened = open_model(path, architecture=lambda tensors: own.load(tensors, 3))
    said = (
        "the checkpoint's model_ema, optimizer, best_prec1, test_acc stay as they were: "
        "they belong to the weights before the repair"
    )
    assert said in opened.notes


def test_one_set_of_weights_needs_no_note(tmp_path: Path) -> None:
    """Nor a choice; one that is asked for anyway is refused."""
    torch.save({"fc.weight": torch.eye(3)}, tmp_path / "a.pt")
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert checkpoint.weights_in(found, "a.pt")[1] == ()
    with pytest.raises(UsageError, match="accepted: none, it has one set of weights"):
        checkpoint.weights_in(found, "a.pt", "ema")
