"""Digits cells have the same bits on every x86-64 processor: against committed digests here, and
against an emulated one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airepair.case import Case
from airepair.host.arithmetic.setup import settings
from benchmarks.grid import methods
from benchmarks.portable.walk import parted

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "portable.json"
EMULATOR, PROCESSOR = "qemu-x86_64", "EPYC-Rome"
NO_EMULATOR = f"{EMULATOR} is not here; Debian has it in qemu-user"
# 7.2 ends in a segmentation fault in the methods that resample images or edit many inputs.
SINCE = (10, 0)

pytestmark = pytest.mark.skipif(not settings(), reason="portable arithmetic is defined for x86-64")


def command(*words: str, emulated: bool = False, timeout: int) -> str:
    """What `python -m benchmarks.portable` prints, in a process of its own, here or on an emulated
    processor.
    """
    before = [shutil.which(EMULATOR) or EMULATOR, "-cpu", PROCESSOR] if emulated else []
    environment = {k: v for k, v in os.environ.items() if k not in settings()} | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    line = [*before, sys.executable, "-m", "benchmarks.portable", *words]
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def emulator_version() -> tuple[int, ...]:
    """The version of the emulator that is installed; () if there is none."""
    if not shutil.which(EMULATOR):
        return ()
    words = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", words)
    return tuple(map(int, found.groups())) if found else ()


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    """The committed digests; of another version of a library they say nothing here."""
    import numpy
    import scipy
    import torch

    found = json.loads(GOLDEN.read_text())
    here = {
        "torch": torch.__version__.partition("+")[0],
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }
    other = {name: version for name, version in here.items() if found["about"][name] != version}
    if other:
        pytest.skip(f"the digests are of {found['about']}; here: {other}")
    return found


def test_every_method_has_committed_digests():
    """On digits-fc as the grid runs it, and shortly on both networks; a cell that repairs has
    digests of weights and scores.
    """
    found = json.loads(GOLDEN.read_text())
    assert set(found["cells"]) == {f"digits-fc-{m}-s0" for m in methods()}
    assert set(found["short"]) == {f"digits-{model}-{m}-s0" for model in ("fc", "cnn") for m in methods()}
    repaired = {
        m
        for m in methods()
        if any(found["short"][f"digits-{k}-{m}-s0"]["status"] == "repaired" for k in ("fc", "cnn"))
    }
    assert repaired == set(methods())
    for cell in (*found["cells"].values(), *found["short"].values()):
        assert (len(cell["weights"]), len(cell["scores"])) == (
            (16, 16) if cell["status"] == "repaired" else (0, 0)
        )


@pytest.mark.slow
def test_short_cells_have_the_committed_digests(committed: dict[str, Any]):
    """Every method with small budgets, fully connected and convolutional, natively."""
    assert json.loads(command("--short", timeout=1800)) == committed["short"]


@pytest.mark.slow
def test_the_grids_cells_have_the_committed_digests(committed: dict[str, Any]):
    """Every method on digits-fc, seed 0, as the grid runs it, natively."""
    assert json.loads(command(timeout=1800)) == committed["cells"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(EMULATOR), reason=NO_EMULATOR)
def test_another_processor_has_the_canarys_digest(committed: dict[str, Any]):
    """Training with three optimisers, linear algebra and elementary functions under an emulated AMD EPYC."""
    assert command("--canary", emulated=True, timeout=3600).strip() == committed["about"]["canary"]


@pytest.mark.slow
@pytest.mark.skipif(
    emulator_version() < SINCE,
    reason=f"version {'.'.join(map(str, SINCE))} or later of {EMULATOR} is needed, "
    f"here: {'.'.join(map(str, emulator_version())) or 'none'}; Debian's backports have it",
)
def test_another_processor_gives_the_same_digests(committed: dict[str, Any], tmp_path: Path):
    """Every method's short cells under an emulated AMD EPYC; where one differs, the operations that
    made it differ are named.
    """
    there = json.loads(command("--short", emulated=True, timeout=7200))
    apart = sorted(cell for cell, digests in committed["short"].items() if there.get(cell) != digests)
    assert not apart, f"{', '.join(apart)}; of the first: {', '.join(operations_apart(apart[0], tmp_path))}"
    assert set(there) == set(committed["short"])


def operations_apart(cell: str, folder: Path) -> list[str]:
    """Repairs the cell again on both processors and compares operation by operation: many times
    slower, so only where digests differ.
    """
    walks = []
    for emulated in (False, True):
        words = ("--short", "--method", Case.parse(cell).base_method, "--walk", str(folder / str(emulated)))
        command(*words, emulated=emulated, timeout=7200)
        walks.append((folder / str(emulated) / f"{cell}.txt").read_text().splitlines())
    return parted(*walks)


def test_a_walk_names_the_operation_that_parts():
    """Equal arguments and another result is that operation's doing; another result of other
    arguments is not.
    """
    here = ["mm.default float32[2,2] aa 01", "sqrt.default float32[2] 01 02", "add.Tensor float32[2] 02 03"]
    there = ["mm.default float32[2,2] aa 01", "sqrt.default float32[2] 01 ff", "add.Tensor float32[2] ff fe"]
    assert parted(here, there) == ["sqrt.default"]
    assert parted(here, here) == []
    assert parted(here, ["bmm.default float32[2,2] aa 01"]) == [
        "another operation: mm.default float32[2,2] / bmm.default float32[2,2]"
    ]
