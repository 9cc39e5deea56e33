"""airepair solve: a published optimum read back from the user's own model file and inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from airepair.cli.main import main
from airepair.formats.keras.files import load_keras

X = np.array([[[[1.0, 0.0]]]], dtype=np.float32)  # one image of 1 x 1 x 2


def ask(
    folder: Path, capsys: pytest.CaptureFixture[str], module: nn.Module, arrays: dict[str, Any], *words: str
) -> tuple[int, Any]:
    """The exit code and the JSON answer (or the error line)."""
    torch.save(module, folder / "net.pt")
    np.savez(folder / "inputs.npz", **arrays)
    code = main(
        ["solve", str(folder / "net.pt"), str(folder / "inputs.npz"), "--trust-pickle", "--json", *words]
    )
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else err


def identity() -> nn.Module:
    """Logits (x0, x1): class 0 wins at (1, 0) by 1."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize(
    ("words", "optimum"),
    [
        (["--norm", "linf", "--no-bias"], 0.5),  # the two weights on x0 share the gap of 1
        (["--norm", "linf"], 0.25),  # two biases help
        (["--norm", "l1", "--no-bias"], 1.0),
        (["--norm", "linf", "--no-bias", "--margin", "0.5"], 0.75),
        (["--norm", "linf", "--no-bias", "--require", "second-best"], 0.5),
        (["--norm", "linf+l1", "--no-bias"], 0.75),  # .5 and the mean of (.5, .5, 0, 0)
    ],
)
def test_optima_computed_by_hand(
    words: list[str], optimum: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Norm, bias and margin change the optimum as the arithmetic says, and the answer is a proof."""
    code, found = ask(tmp_path, capsys, identity(), {"x": X, "y": np.array([1])}, *words)
    assert code == 0
    assert found["status"] == "optimal"
    assert found["optimum"] == pytest.approx(optimum, abs=1e-9)
    assert (found["before"], found["after"], found["required"], found["rows"]) == (0, 1, 1, 1)


def test_a_layer_that_is_not_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits (h, 3 - h) with h = relu(2 x): h must fall by .5, so the only weight changes by .5;
    the unit stays on, so folding holds.
    """
    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2)
    with torch.no_grad():
        first.weight.fill_(2.0)
        last.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        last.bias.copy_(torch.tensor([0.0, 3.0]))
    module = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    code, found = ask(
        tmp_path, capsys, module, {"x": np.ones((1, 1, 1, 1)), "y": np.array([1])}, "--layer", "-2"
    )
    assert code == 0
    assert found["optimum"] == pytest.approx(0.5, abs=1e-9)
    assert (found["decoupled"], found["after"], found["folded"], found["layer"]) == (True, 1, 1, "1")


def test_a_bound_that_is_too_small_is_proved_infeasible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, no optimum, and the verdict says that it is a proof."""
    code, found = ask(tmp_path, capsys, identity(), {"x": X, "y": np.array([1])}, "--bound", "0.2")
    assert code == 1
    assert (found["status"], found["optimum"], found["after"]) == ("infeasible", None, None)


def test_orders_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that hold already cost nothing; of two inputs only the listed one counts."""
    both = np.concatenate([X, X])
    code, found = ask(
        tmp_path, capsys, identity(), {"x": both, "orders": np.array([[1, 0, 1]])}, "--require", "orders"
    )
    assert code == 0
    assert (found["optimum"], found["before"], found["inputs"]) == (0.0, 1, 2)


def test_the_size_limit_leaves_it_undecided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an optimum nor a proof is claimed, and the reason names the limit."""
    code, found = ask(tmp_path, capsys, identity(), {"x": X, "y": np.array([1])}, "--entries", "1")
    assert code == 1
    assert found["status"] == "undecided"
    assert "entries=1" in found["reason"]


@pytest.mark.parametrize(
    ("arrays", "words", "said"),
    [
        ({"x": X}, [], "needs y"),
        ({"x": X, "y": np.array([7])}, [], "label 7, the network has 2 classes"),
        ({"x": X, "y": np.array([0, 1])}, [], "accepted: 1 whole numbers"),
        ({"x": X[0, 0], "y": np.array([1])}, ["--layer", "3"], "accepted: last"),
        ({"x": np.ones((1, 1, 1, 5)), "y": np.array([1])}, [], "does not take x of (1, 1, 5)"),
        ({"x": X, "y": np.array([1])}, ["--margin", "-1"], "--margin -1.0 is out of range"),
        ({"x": X, "y": np.array([1])}, ["--margin", "inf"], "accepted: a finite number of 0 or more"),
        ({"x": np.repeat(X, 3, 0), "y": np.array([0, -1, 1])}, [], "label -1, the network has 2 classes"),
        ({"x": X * np.nan, "y": np.array([1])}, [], "not finite"),
        ({"x": X, "orders": np.array([[0, 5, 0]])}, ["--require", "orders"], "classes 0..1"),
    ],
)
def test_bad_input_is_one_line(
    arrays: dict[str, Any], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line that names the value and what would be accepted."""
    code, error = ask(tmp_path, capsys, identity(), arrays, *words)
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_npz_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A single array, and archives of which a part is missing or damaged."""
    torch.save(identity(), tmp_path / "net.pt")
    np.savez_compressed(tmp_path / "whole.npz", x=np.random.default_rng(0).random((9, 2)), y=np.zeros(9, int))
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.npz").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
    for name in ("array.npy", "short.npz", "damaged.npz", "absent.npz"):
        assert main(["solve", str(tmp_path / "net.pt"), str(tmp_path / name), "--trust-pickle"]) == 2
        error = capsys.readouterr().err
        assert f"{name} is not a readable npz file of arrays: " in error
        assert error.count("\n") == 1


def test_the_text_says_what_was_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person: the optimum in full, that it is proved, rows and seconds."""
    ask(tmp_path, capsys, identity(), {"x": X, "y": np.array([1])})
    assert (
        main(["solve", str(tmp_path / "net.pt"), str(tmp_path / "inputs.npz"), "--trust-pickle", "--no-bias"])
        == 0
    )
    out = capsys.readouterr().out
    assert "optimum 0.5  (linf, proved optimal, duality gap " in out
    assert "1 of 1 hold in the network" in out


def homogeneous(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A Keras file of ACAS Xu's shape (5 inputs, six layers of 50 units, 5 outputs) without biases,
    one input, and its features and logits.
    """
    pytest.importorskip("h5py")
    pytest.importorskip("keras")
    keras = load_keras()
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(50, activation="relu", use_bias=False) for _ in range(6)]
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(5, use_bias=False)])
    model.save(folder / "acas.h5")
    x = np.array([[0.3, -0.5, 0.1, 0.4, -0.2]])
    h = x
    for layer in layers:
        h = np.maximum(h @ np.asarray(layer.kernel, dtype=np.float64), 0)
    return folder / "acas.h5", h[0], (h @ np.asarray(model.layers[-1].kernel, dtype=np.float64))[0]


def test_an_order_over_five_outputs_of_a_keras_file_costs_what_the_formula_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goldberger et al.'s specification for ACAS Xu (outputs 0 and 1 below 2, 3 and 4 by .01), without
    bias, L-infinity, three inputs.

    Each logit moves by at most eps |h|_1, so eps = (largest missing difference) / (2 |h|_1). The
    network has no biases, so an input k times as long has features and differences k times as
    large, and is less demanding: the shortest input decides.
    """
    file, h, y = homogeneous(tmp_path)
    missing = max(y[low] - y[high] + 0.01 for low in (0, 1) for high in (2, 3, 4))
    assert missing > 0
    x = np.array([[0.3, -0.5, 0.1, 0.4, -0.2]])
    orders = [[i, high, low] for i in range(3) for low in (0, 1) for high in (2, 3, 4)]
    np.savez(tmp_path / "inputs.npz", x=np.concatenate([x, 2 * x, 5 * x]), orders=np.array(orders))
    words = ["--require", "orders", "--norm", "linf", "--margin", "0.01", "--no-bias", "--json"]
    assert main(["solve", str(file), str(tmp_path / "inputs.npz"), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "optimal"
    assert found["optimum"] == pytest.approx(
        missing / (2 * np.abs(h).sum()), rel=1e-6
    )  # Keras computes in float32, the file holds float32
    assert found["after"] == found["required"] == 18
