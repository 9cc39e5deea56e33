"""Every method and every kind of subject on a pretend CUDA device (pretend_cuda.py), beside the
same cells on the CPU. Slow: minutes of a core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from airepair.methods import METHODS
from tests.pretend_cells import FILES, GRID, TOYS, WAYS, digits_file

ROOT = Path(__file__).parents[2]
# Batch norm's backward under torch.func.vmap reports mixed devices on the pretend device alone; the
# toy without batch norm shows these methods.
ARTEFACTS = {(kind, method) for kind in ("mlp", "cnn", "environment") for method in ("prdnn", "aprnn")}
EXACT = (
    "noop",
    "lookup",
    "memit",
    "minimal",
    "random",
)  # nothing is trained: the same answers to the last image

pytestmark = pytest.mark.slow


@lru_cache(maxsize=32)
def cells(device: str, kind: str) -> dict[str, dict[str, Any]]:
    """What came of each method's cell on subjects of that kind, in a process of its own."""
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "tests.pretend_cells", device, kind, folder]
        environment = {
            **os.environ,
            "AIREPAIR_CACHE": folder,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {found["method"]: found for found in map(json.loads, done.stdout.splitlines())}


def same_cell(kind: str, method: str) -> None:
    """The cell ends as on the CPU, and trains on as many images."""
    here, there = cells("cpu", kind)[method], cells("cuda", kind)[method]
    assert (there["status"], there["reason"]) == (here["status"], here["reason"])
    assert there["images"] == here["images"]
    if method in EXACT:
        assert there["accuracy"] == here["accuracy"]
    assert not [note for note in there["notes"] if "put back" in note]


@pytest.mark.parametrize("kind", TOYS)
@pytest.mark.parametrize("method", METHODS.builtin)
def test_a_method_runs_on_a_device(kind: str, method: str) -> None:
    """It mixes no devices, reads nothing back while a graph is recorded, and every replay is counted."""
    if (kind, method) in ARTEFACTS:
        pytest.skip("an artefact of the pretend device (batch norm under vmap)")
    same_cell(kind, method)


@pytest.mark.parametrize("kind", [*GRID, *FILES])
@pytest.mark.parametrize("method", WAYS)
def test_every_kind_of_subject_gets_to_a_device(kind: str, method: str) -> None:
    """Trained there, with a fault put in, or read from a file."""
    if kind == "Keras file":
        pytest.importorskip("keras")
    same_cell(kind, method)


REFUSED = """
import torch
from tests.pretend_cuda import install
install()
there, here = torch.ones(3, device="cuda"), torch.ones(3)
graph = torch.cuda.CUDAGraph()
def recorded(work):
    with torch.cuda.graph(graph):
        work()
tries = {
    "two devices": lambda: there + here,
    "numpy": lambda: there.numpy(),
    "generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "read back": lambda: recorded(lambda: float(there.sum())),
    "copy": lambda: recorded(lambda: there.cpu()),
    "index": lambda: recorded(lambda: there[[0, 2]]),
}
for name, work in tries.items():
    try:
        work()
    except (RuntimeError, TypeError) as error:
        print(name, "|", error)
total = torch.zeros(3, device="cuda")
graph = torch.cuda.CUDAGraph()
recorded(lambda: total.add_(there))
print("recorded", total.tolist())
graph.replay(), graph.replay()
print("replayed", total.tolist(), total.device)

from airepair.training.cuda_graph import Recorded, graph_of
tries = []
def counted(work):
    tries.append(1)
    return graph_of(work, there.device)
for name, work in {"waits": lambda x: x * float(x.sum()), "alone": lambda x: x * 2}.items():
    recorded_work = Recorded(work, counted)
    found = [recorded_work(there * k).tolist() for k in range(6)]
    print(name, len(tries), recorded_work.failed, found == [work(there * k).tolist() for k in range(6)])
"""


def test_the_pretend_device_refuses_what_cuda_refuses() -> None:
    """And recording computes nothing, while each replay does."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = dict(line.split(" | ") for line in done.stdout.splitlines() if " | " in line)
    assert set(said) == {"two devices", "numpy", "generator", "read back", "copy", "index"}
    assert "same device" in said["two devices"]
    assert "capturing" in said["read back"]
    assert "recorded [0.0, 0.0, 0.0]" in done.stdout
    assert "replayed [2.0, 2.0, 2.0] cuda:0" in done.stdout
    # what waits for the device is seen before it is recorded, and is never tried
    assert "waits 0 True True" in done.stdout
    assert "alone 1 False True" in done.stdout


def test_each_worker_sees_a_card_of_its_own(tmp_path: Path) -> None:
    """`-n auto` with two cards starts two workers, and the records name both cards."""
    (tmp_path / "pynvml.py").write_text(
        "def nvmlInit(): pass\ndef nvmlDeviceGetCount(): return 2\n"
        "def __getattr__(name):\n    raise AttributeError(name) if name.startswith('__') else "
        "RuntimeError(name)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    environment |= {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "AIREPAIR_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    words = (
        f"-p tests.pretend_cuda benchmarks --dataset digits --pretrained {digits_file(tmp_path)} "
        f"--net_arch fc --no-ablations"
    )
    words += " --method noop,random,lookup,memit --seeds 0,1 --device cuda -n auto"
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words.split(), "-q", "-p", "no:cacheprovider", "--out", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == 8
    assert {r["provenance"]["device"] for r in records} == {"Pretend GPU 0", "Pretend GPU 1"}


def test_this_process_has_no_pretend_device() -> None:
    """What the tests import installs nothing."""
    assert torch.zeros(1).device.type == "cpu"
    assert type(torch.zeros(1)) is torch.Tensor
