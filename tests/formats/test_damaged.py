"""Damaged and hostile model files of every format: one line each, no hang, nothing of theirs is run
(tests/damage.py makes them).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.damage import FILES, SHAPE, Variant, outcome, put, sound, variants

NEEDS = {
    "torchscript": "mmdnn",
    "exported": "mmdnn",
    "onnx": "onnx2torch",
    "keras-h5": "h5py",
    "keras": "h5py",
}
NEEDS |= {"frozen-pb": "tensorflow", "savedmodel": "tensorflow"}
pytestmark = pytest.mark.filterwarnings("ignore")


def skip_without(kind: str) -> None:
    needed = NEEDS.get(kind)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (pip install 'airepair[keras,mmdnn,onnx,tf]')")


def sampled(kind: str, found: list[Variant]) -> list[Variant]:
    """All that are hostile by design (they are quick to refuse), and every eighth of the rest; of
    Keras and ONNX, whose readers are slow, fewer.
    """
    step = 8 if kind in ("torch", "legacy", "module", "safetensors") else 20
    plain = [v for v in found if v[0].startswith(("bits", "block", "cut", "weights:"))]
    return [v for v in found if v not in plain] + plain[::step]


@pytest.mark.parametrize("kind", ["torch", "legacy", "module", "safetensors", "keras-h5", "keras", "onnx"])
def test_a_sample_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    """Each variant is opened or refused by a UsageError of one line; the code inside none of them ran."""
    skip_without(kind)
    good = sound(kind, tmp_path)
    assert outcome(good) == "opened"
    found = sampled(kind, list(variants(kind, good, 0, 40, tmp_path / "ran")))
    said = {name: outcome(put(content, tmp_path / "variant")) for name, content in found}
    assert {k: v for k, v in said.items() if v.startswith("BAD")} == {}
    assert sum(v.startswith("refused") for v in said.values()) > len(said) / 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FILES))
def test_all_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    """The same for a few hundred of every format, in a process of its own: a crash or a hang of a
    library would be seen.
    """
    skip_without(kind)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.damage", kind, str(tmp_path), "1", "150"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[2],
        timeout=3000,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{rows[-1:]} {done.stderr[-1500:]}"
    said = {row["name"]: row["outcome"] for row in rows if "name" in row}
    assert said.pop("as it was") == "opened"
    assert {k: v for k, v in said.items() if v.startswith("BAD")} == {}
    assert len(said) >= 200
    assert not (tmp_path / "ran").exists()


def test_a_trusted_pickle_does_run(tmp_path: Path) -> None:
    """What the flag is for: the same file that is refused leaves its mark when it is trusted, so
    the tests above could see one.
    """
    good = sound("torch", tmp_path)
    ran = tmp_path / "ran"
    content = dict(variants("torch", good, 0, 13, ran))["code beside the weights"]
    path = put(content, tmp_path / "variant")
    assert outcome(path).startswith("refused")
    assert not ran.exists()
    outcome(path, trust_pickle=True, shape=SHAPE)
    assert ran.exists()
