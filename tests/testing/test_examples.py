"""The examples work: the third-party package passes its own test and is discovered, the external
tools repair.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from airepair.evaluation.exam import sit
from airepair.methods import METHODS, build
from airepair.testing import toy
from airepair.testing.trial import attempt

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The third-party package's sources on the path."""
    folder = EXAMPLES / "third_party"
    monkeypatch.syspath_prepend(folder / "src")
    yield folder
    sys.modules.pop("airepair_bias", None)


def test_the_third_party_method_keeps_the_contract(package: Path):
    """Its own test file of three lines passes under pytest."""
    lines = [line for line in (package / "tests" / "test_bias.py").read_text().splitlines() if line.strip()]
    assert len(lines) == 3
    path = os.pathsep.join([str(package / "src"), str(ROOT)])
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        str(package / "tests"),
    ]
    done = subprocess.run(
        words,
        cwd=package,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_the_third_party_method_runs_without_installation(package: Path):
    """`--method airepair_bias:Bias` is enough."""
    trial = attempt(build("airepair_bias:Bias", {"strength": "1.0"}), toy.task())
    moved = [
        k for k, v in trial.start.state_dict().items() if not torch.equal(v, trial.module.state_dict()[k])
    ]
    assert moved == ["4.bias"]


@pytest.mark.slow
def test_a_poisoned_network_is_repaired_through_the_inputs_that_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The square leads every image to 0; afterwards most images with it that no repair has seen are
    right, and clean accuracy has hardly moved.
    """
    monkeypatch.syspath_prepend(EXAMPLES / "poisoned")
    import make
    import measure

    from airepair.cli.main import main

    out, run = tmp_path / "poisoned", tmp_path / "run"
    make.main(out)
    files = f"--pretrained {out}/poisoned.pt --failing npz:{out}/failing.npz --out {run}"
    words = (
        f"repair --dataset digits --net_arch cnn --method finetune memit {files} --set "
        f"finetune.epochs=20 --set finetune.lr=0.016"
    )
    assert main(words.split()) == 0
    told = capsys.readouterr().err
    assert "20 of the 100 given inputs are held out" in (run / "records.jsonl").read_text()
    assert "of those held out" in told
    measure.main(out, run)
    lines = {
        line.split()[0]: [float(w.replace(",", "")) for w in line.split()[1:]]
        for line in capsys.readouterr().out.splitlines()[1:]
    }
    (clean, square, led), after = lines["before"][:3], lines["finetune"]
    assert clean > 0.95
    assert (square, led) == (0, 1)
    assert after[0] > clean - 0.03
    assert after[1] > 0.8
    assert after[2] < 0.1
    assert lines["memit"][1] < after[1]


def _repaired_by(tool: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airepair.errors import Unavailable
    from airepair.external import environment, manifest

    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "cache" / "baselines"))
    try:
        environment.create(manifest.find(tool))
    except Unavailable as error:
        pytest.skip(f"its environment cannot be built here: {error}")
    one, two = (attempt(build(f"tool:{tool}", options), toy.task("cnn")) for _ in range(2))
    before, after = (sit(m, one.task.validation) for m in (one.start, one.module))
    assert after.accuracy > before.accuracy
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.module.state_dict().values(), two.module.state_dict().values(), strict=True)
    )
    assert one.task.meter.backward > 0
    assert len(one.diary.progress) == int(options["epochs"])
    assert Path(one.diary.notes[0].removeprefix("the tool's log: ")).is_file()


@pytest.mark.slow
def test_adversarial_training_by_the_toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The adversarial-robustness-toolbox, in its own environment, repairs the toy subject; twice
    the same, counted, logged.
    """
    _repaired_by("adversarial_training", {"epochs": "3", "eps": "0.02", "lr": "0.05"}, tmp_path, monkeypatch)


@pytest.mark.slow
def test_fine_tuning_in_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A tool in TensorFlow/Keras rebuilds the network, trains it, and writes weights that fit."""
    _repaired_by("keras_finetune", {"epochs": "4", "lr": "0.05"}, tmp_path, monkeypatch)


def test_the_tools_of_the_examples_are_listed_with_what_they_need():
    """Their cards come from their manifests."""
    art = METHODS.get("tool:adversarial_training")
    assert art.category == "retraining"
    assert "airepair env create adversarial_training" in art.needs
