"""A suite without networks: the real plugins on cells that file a record, wait, or end their
process as a test wants.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGINS = [
    "fixtures.options",
    "fixtures.model_files",
    "fixtures.selection",
    "fixtures.resume",
    "fixtures.sharding",
    "fixtures.scheduling",
    "fixtures.arithmetic",
    "fixtures.expectation",
    "fixtures.live",
    "fixtures.device",
    "fixtures.plan",
    "reports.bridge",
    "reports.reporter",
    "reports.account",
    "reports.gate",
    "fixtures.words",
]
ELSEWHERE = [*PLUGINS, "fixtures.afar", "fixtures.engine", "tests.rig.pretend_cluster"]
CELLS, CELLS_ELSEWHERE = (Path(__file__).with_name(name) for name in ("cells.py", "cells_elsewhere.py"))


def key(seed: int) -> str:
    """The cell of a seed."""
    return f"digits-fc-noop-s{seed}"


def lay(folder: Path, behaviour: Mapping[int, str]) -> None:
    """The suite's files in `folder`; `behaviour` says what the cells of which seeds do
    (tests/rig/cells.py).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "conftest.py").write_text(f"pytest_plugins = {PLUGINS}\n")
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:cacheprovider\nmarkers =\n    cell(dataset, model, method, variant, "
        "seed): x\n"
    )
    (folder / "test_repair.py").write_text(CELLS.read_text())
    (folder / "behaviour.json").write_text(json.dumps(behaviour))


def lay_elsewhere(folder: Path) -> None:
    """The suite whose cells run on a pretended cluster (tests/rig/pretend_cluster.py)."""
    lay(folder, {})
    (folder / "conftest.py").write_text(f"pytest_plugins = {ELSEWHERE}\n")
    (folder / "test_repair.py").write_text(CELLS_ELSEWHERE.read_text())


def command(folder: Path, *words: str) -> list[str]:
    """pytest on the laid suite; results go to `folder`/out."""
    return [
        sys.executable,
        "-m",
        "pytest",
        str(folder),
        "--device",
        "cpu",
        "--no-ablations",
        "--dataset",
        "digits",
        *words,
    ]


def surroundings(**more: str) -> dict[str, str]:
    """The environment of a run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"} | more


def run(folder: Path, *words: str, timeout: int = 600, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the suite to its end."""
    return subprocess.run(
        command(folder, *words),
        cwd=folder,
        env=surroundings(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """Starts the suite in a process group of its own."""
    return subprocess.Popen(
        command(folder, *words),
        cwd=folder,
        env=surroundings(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )
