"""GELU in TensorFlow graphs: found in whatever order it was written, and not in what is nearly one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from airepair.formats import open_model
from airepair.formats.export import export
from airepair.formats.tensorflow.gelu import gelus

NUMBERS = {"half": 0.5, "one": 1.0, "root": 2**0.5, "inverse": 0.5**0.5, "tenth": 0.1}


def graph(**nodes: tuple[str, ...]) -> dict[str, Any]:
    """Name -> node of an operation and its inputs; the numbers are constants."""
    made = {name: SimpleNamespace(op="Const", input=[]) for name in NUMBERS}
    made |= {"x": SimpleNamespace(op="Relu", input=[]), "z": SimpleNamespace(op="Relu", input=[])}
    return made | {name: SimpleNamespace(op=op, input=list(inputs)) for name, (op, *inputs) in nodes.items()}


DIVIDED = {"scaled": ("RealDiv", "x", "root"), "erf": ("Erf", "scaled"), "sum": ("AddV2", "one", "erf")}

COMPLEMENT = {"sign": ("Neg", "x"), "scaled": ("Mul", "sign", "inverse"), "erfc": ("Erfc", "scaled")}


@pytest.mark.parametrize(
    "nodes",
    [
        DIVIDED
        | {"first": ("Mul", "half", "x"), "y": ("Mul", "first", "sum")},  # tf.nn.gelu of earlier versions
        COMPLEMENT | {"first": ("Mul", "half", "x"), "y": ("Mul", "first", "erfc")},  # and of TensorFlow 2.21
        COMPLEMENT
        | {
            "scaled": ("Neg", "there"),
            "there": ("RealDiv", "x", "root"),
            "first": ("Mul", "erfc", "x"),
            "y": ("Mul", "half", "first"),
        },
        DIVIDED | {"first": ("Mul", "x", "sum"), "y": ("Mul", "first", "half")},
        DIVIDED
        | {"same": ("Identity", "x:0"), "first": ("Mul", "sum", "half"), "y": ("Mul", "same", "first", "^z")},
        DIVIDED
        | {
            "scaled": ("Mul", "inverse", "x"),
            "sum": ("Add", "erf", "one"),
            "first": ("Mul", "half", "x"),
            "y": ("Mul", "sum", "first"),
        },
        DIVIDED
        | {
            "x": ("Mul", "z", "tenth"),
            "first": ("Mul", "half", "x"),
            "y": ("Mul", "first", "sum"),
        },  # of a product
    ],
)
def test_a_gelu_is_found_in_any_order(nodes: dict[str, tuple[str, ...]]) -> None:
    """Its last product, and what goes in."""
    assert gelus(graph(**nodes), NUMBERS) == {"y": "x"}


@pytest.mark.parametrize(
    "nodes",
    [
        DIVIDED | {"first": ("Mul", "tenth", "x"), "y": ("Mul", "first", "sum")},
        DIVIDED | {"first": ("Mul", "half", "z"), "y": ("Mul", "first", "sum")},
        DIVIDED
        | {"scaled": ("RealDiv", "root", "x"), "first": ("Mul", "half", "x"), "y": ("Mul", "first", "sum")},
        DIVIDED
        | {
            "scaled": ("RealDiv", "x", "inverse"),
            "first": ("Mul", "half", "x"),
            "y": ("Mul", "first", "sum"),
        },
        DIVIDED
        | {"sum": ("AddV2", "half", "erf"), "first": ("Mul", "half", "x"), "y": ("Mul", "first", "sum")},
        DIVIDED | {"erf": ("Tanh", "scaled"), "first": ("Mul", "half", "x"), "y": ("Mul", "first", "sum")},
        DIVIDED | {"y": ("Mul", "x", "sum")},
        COMPLEMENT | {"sign": ("Relu", "x"), "first": ("Mul", "half", "x"), "y": ("Mul", "first", "erfc")},
        COMPLEMENT
        | {"scaled": ("Mul", "x", "inverse"), "first": ("Mul", "half", "x"), "y": ("Mul", "first", "erfc")},
    ],
)
def test_what_is_nearly_one_is_none(nodes: dict[str, tuple[str, ...]]) -> None:
    """Another factor, another input, another scale, another function."""
    assert gelus(graph(**nodes), NUMBERS) == {}


@pytest.mark.slow
def test_a_network_with_gelu_goes_to_tensorflow_and_comes_back(tmp_path: Path) -> None:
    """Uneven padding and a batch norm between; a repair is written into the same graph."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("mmdnn")
    torch.manual_seed(0)
    first = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GELU(),
        nn.ZeroPad2d((1, 2, 0, 1)),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.GELU(),
    ]
    net, x = (
        nn.Sequential(*first, nn.Flatten(), nn.Linear(315, 6), nn.GELU(), nn.Linear(6, 3)).eval(),
        torch.randn(5, 1, 8, 8),
    )
    assert export(net, (1, 8, 8), tmp_path / "net.pb").faithful
    opened = open_model(tmp_path / "net.pb")
    assert (opened.module(x) - net(x)).abs().max() < 1e-4
    assert sum(isinstance(m, nn.GELU) for m in opened.module.modules()) == 3
    with torch.no_grad():
        for p in opened.module.parameters():
            p.mul_(1.05)
    back = opened.write(opened.module, tmp_path / "out.pb")
    assert back is not None
    assert back.faithful
