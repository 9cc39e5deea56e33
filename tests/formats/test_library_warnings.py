"""Warnings of the frameworks, with paths of their own code, do not reach the terminal; ours and the
user's do.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.formats import open_model
from airepair.formats.model_file import ModelFile


def noisy(path: Path) -> ModelFile:
    """A file whose framework warns while it is written and checked."""

    def writer(module: nn.Module, out: Path) -> None:
        warnings.warn("a matter of the framework's own", UserWarning, stacklevel=1)

    return ModelFile(nn.Identity(), "keras", path, writer)


def test_reading_and_writing_a_file_warns_of_nothing(tmp_path: Path) -> None:
    """Keras warns of a functional model's inputs when it is called; torch of TorchScript's age."""
    pytest.importorskip("mmdnn")
    pytest.importorskip("keras")
    from airepair.formats.keras.files import load_keras

    keras = load_keras()
    i = keras.Input((4, 4, 1), name="named")
    model = keras.Model([i], keras.layers.Dense(3)(keras.layers.Flatten()(i)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "a.keras")
        torch.jit.save(
            torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(16, 3))), str(tmp_path / "a.pt")
        )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for name in ("a.keras", "a.pt"):
            opened = open_model(tmp_path / name, trust_pickle=True, shape=(1, 4, 4))
            opened.write(opened.module, tmp_path / f"out-{name}")
        noisy(tmp_path / "a.keras").write(nn.Identity(), tmp_path / "b.keras")
        assert heard == []
        warnings.warn("the user's own", UserWarning, stacklevel=1)
    assert len(heard) == 1


SAY = """
import sys, warnings
from airepair.cli.main import main
assert main(["--version"]) == 0
libraries = ("keras.src.models.functional", "torch.optim.lr_scheduler")
for module in (*libraries, "airepair.training.best_state", "my_net"):
    warnings.warn_explicit(f"from {module}", UserWarning, f"/site-packages/{module}.py", 1, module=module)
"""


@pytest.mark.parametrize(("options", "kept"), [((), False), (("-W", "default"), True)])
def test_the_command_line_keeps_frameworks_quiet(options: tuple[str, ...], kept: bool) -> None:
    """Their warnings go, ours and the user's stay; `python -W` brings all back."""
    done = subprocess.run([sys.executable, *options, "-c", SAY], capture_output=True, text=True, check=True)
    assert ("from keras" in done.stderr, "from torch" in done.stderr) == (kept, kept)
    assert "from airepair.training.best_state" in done.stderr
    assert "from my_net" in done.stderr
