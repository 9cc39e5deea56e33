"""Torch weight files: what loads, what is refused, and that nothing in a file runs."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.errors import UsageError
from airepair.formats import open_model
from airepair.formats.extra_layers import ChannelsLastFlatten
from airepair.models import checkpoint
from airepair.models.input_adapter import InputAdapter


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)
    ).eval()


def architecture(tensors):
    """Builds the test network from its own names or from `module.`-prefixed ones."""
    module = net()
    module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items()})
    return module


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['AIREPAIR_TEST_MARK']}",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"net": s, "epoch": 3},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    ],
)
def test_state_dict_round_trip(tmp_path: Path, wrap) -> None:
    """A repair comes back in the same container under the same names; other keys are kept, and the
    weights are the repaired ones.
    """
    torch.save(wrap(net().state_dict()), tmp_path / "in.weird")
    opened = open_model(tmp_path / "in.weird", architecture=architecture)
    with torch.no_grad():
        for p in opened.module.parameters():
            p.add_(1)
    opened.write(opened.module, tmp_path / "out.pth")
    before, after = torch.load(tmp_path / "in.weird"), torch.load(tmp_path / "out.pth")
    assert list(before) == list(after)
    again = open_model(tmp_path / "out.pth", architecture=architecture).module
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), opened.module.state_dict().values(), strict=True)
    )
    assert not torch.equal(again[0].weight, net()[0].weight)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    """safetensors keep their metadata; an identity repair is bit-equal."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    save_file(net().state_dict(), tmp_path / "a.safetensors", metadata={"who": "me"})
    opened = open_model(tmp_path / "a.safetensors", architecture=architecture)
    opened.write(opened.module, tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert file.metadata() == {"who": "me"}
    a, b = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_pickled_module_of_torch_layers_loads_without_trust(tmp_path: Path) -> None:
    """A pickled module made of torch's own layers needs no trust and comes back as a pickled module."""
    torch.save(net(), tmp_path / "whole.pth")
    opened = open_model(tmp_path / "whole.pth")
    nn.init.zeros_(opened.module[4].bias)
    opened.write(opened.module, tmp_path / "out.pth")
    back = torch.load(tmp_path / "out.pth", weights_only=False)
    assert isinstance(back, nn.Sequential)
    assert not back[4].bias.any()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_pickled_module_of_ours_loads_where_its_layers_have_moved(tmp_path: Path, trusted: bool) -> None:
    """A file names a layer by the module and the name that it had when the file was written."""
    before = {
        "airepair.models.feed.Feed": InputAdapter,
        "airepair.models.formats.layers.ChannelsLastFlatten": ChannelsLastFlatten,
    }
    InputAdapter.__qualname__ = "Feed"
    try:
        with checkpoint.pickled_as(before):
            torch.save(InputAdapter(ChannelsLastFlatten()), tmp_path / "whole.pt")
    finally:
        InputAdapter.__qualname__ = "InputAdapter"
    assert before.keys() <= set(torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "whole.pt"))
    back = checkpoint.load(tmp_path / "whole.pt", trust_pickle=trusted)
    assert (type(back), type(back.net)) == (InputAdapter, ChannelsLastFlatten)


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, monkeypatch) -> None:
    """A pickle that names a function outside the allow-list is refused with the switch that would
    allow it; nothing ran.
    """
    mark = tmp_path / "ran"
    monkeypatch.setenv("AIREPAIR_TEST_MARK", str(mark))
    evil = net()
    evil.extra = Evil()
    for name, value in {"module": evil, "dict": {"net": net().state_dict(), "x": Evil()}}.items():
        torch.save(value, tmp_path / name)
        with pytest.raises(UsageError, match="--trust-pickle"):
            open_model(tmp_path / name, architecture=architecture)
    torch.save(evil, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError):
        open_model(tmp_path / "legacy")
    assert not mark.exists()


def test_harmless_extras_load(tmp_path: Path) -> None:
    """argparse.Namespace and NumPy scalars in a checkpoint are no obstacle; mean and std beside the
    weights become the feed hint.
    """
    import numpy as np

    saved = {
        "net": net().state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "mean": [0.5],
        "std": [0.25],
        "optimizer": {},
    }
    torch.save(saved, tmp_path / "c.pt")
    opened = open_model(tmp_path / "c.pt", architecture=architecture)
    assert opened.feed is not None
    assert opened.feed.scale == (4.0,)
    assert opened.feed.offset == (-2.0,)
    assert any("optimizer" in note for note in opened.notes)


def test_tensors_that_lie_are_refused(tmp_path: Path) -> None:
    """NaN weights, and a tensor that claims more elements than the file stores, are refused by name."""
    state = net().state_dict()
    torch.save(OrderedDict(state, **{"4.bias": torch.full((4,), float("nan"))}), tmp_path / "nan.pt")
    torch.save(
        OrderedDict(state, **{"4.weight": torch.zeros(1).expand(40_000, 1_000_000)}), tmp_path / "huge.pt"
    )
    with pytest.raises(UsageError, match=r"4\.bias.*NaN"):
        open_model(tmp_path / "nan.pt", architecture=architecture)
    with pytest.raises(UsageError, match=r"4\.weight"):
        open_model(tmp_path / "huge.pt", architecture=architecture)


def test_a_changed_architecture_is_not_written(tmp_path: Path) -> None:
    """A module with other layers than the file, and the original's own path, are refused at writing."""
    torch.save(net(), tmp_path / "whole.pth")
    opened = open_model(tmp_path / "whole.pth")
    with pytest.raises(UsageError, match="architecture"):
        opened.write(nn.Sequential(*opened.module, nn.Linear(4, 4)), tmp_path / "out.pth")
    with pytest.raises(UsageError, match="original"):
        opened.write(opened.module, tmp_path / "whole.pth")


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    """Absent, empty, foreign, truncated and oversized files: one line each; weights without a
    network say what to give.
    """
    torch.save(net().state_dict(), tmp_path / "ok.pt")
    data = (tmp_path / "ok.pt").read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"hello, this is no model",
        "cut": data[: len(data) // 2],
        "zeros": bytes(300),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError) as caught:
            open_model(tmp_path / name, architecture=architecture)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        open_model(tmp_path / "absent")
    with pytest.raises(UsageError, match="at most"):
        open_model(tmp_path / "ok.pt", max_bytes=100)
    with pytest.raises(UsageError, match="--net_arch"):
        open_model(tmp_path / "ok.pt")
    with pytest.raises(UsageError, match="do not fit"):
        open_model(tmp_path / "ok.pt", architecture=lambda t: nn.Linear(3, 3).load_state_dict(t))
