"""One mutant at a time: its file is changed in a copy of the checkout, its tests run there, and the
file is put back.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec
from filelock import FileLock

from airepair.errors import UsageError

from .covering import Covered
from .mutate import Mutant
from .scope import drawn

DRAWN, RESULTS, TREE = "drawn.json", "results.jsonl", "tree"
FACTOR, LEAST = (
    5,
    60,
)  # CPU seconds that a mutant's tests may take: so many times what they took before, and so many more
Status = Literal["killed", "survived", "timeout"]


@dataclass(frozen=True)
class Result:
    """How a mutant ended: by which test, of how many. A mutant that never ends is found out too."""

    key: str
    status: Status
    by: str
    tests: int


def copied(root: Path, folder: Path) -> Path:
    """A copy of the checkout's tracked files, made anew."""
    tree = folder / TREE
    shutil.rmtree(tree, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)
    return tree


def of_folder(tree: Path, folder: Path, count: int, seed: int) -> list[Mutant]:
    """The mutants of the folder: those that were drawn when it was new.

    UsageError if the code has changed since.
    """
    file = folder / DRAWN
    now = drawn(tree, count, seed)
    if not file.exists():
        file.write_text(json.dumps([asdict(m) for m in now], indent=1), encoding="utf-8")
    known = msgspec.json.decode(file.read_bytes(), type=list[Mutant])
    if known != now:
        raise UsageError(
            f"{file} is of another state of the code, or of another --count or --seed; accepted: a new --out"
        )
    return known


def results(folder: Path) -> dict[str, Result]:
    """What is known of each mutant, the last word of each."""
    file = folder / RESULTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {
        r.key: r for r in (msgspec.json.decode(line, type=Result) for line in lines if line.endswith("}"))
    }


def run(root: Path, folder: Path, tests: Covered, count: int, seed: int, *, again: bool) -> Iterator[Result]:
    """Tries the mutants that have no result yet, with `again` the survivors too; each result is on
    disk before the next begins.
    """
    with FileLock(folder / "lock", timeout=0):
        tree = copied(root, folder)
        known = results(folder)
        for mutant in of_folder(tree, folder, count, seed):
            before = known.get(mutant.key)
            if before is None or (again and before.status == "survived"):
                result = tried(tree, folder, mutant, tests)
                with (folder / RESULTS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
                yield result


def tried(tree: Path, folder: Path, mutant: Mutant, tests: Covered) -> Result:
    """The mutant's tests; none of them is a survivor, too."""
    chosen = tests.of(mutant)
    if not chosen:
        return Result(mutant.key, "survived", "", 0)
    file = tree / mutant.path
    source = file.read_text(encoding="utf-8")
    seconds = LEAST + FACTOR * round(sum(tests.seconds.get(t, 1.0) for t in chosen))
    try:
        file.write_text(mutant.applied(source), encoding="utf-8")
        done = _pytest(tree, folder, chosen, seconds)
    finally:
        file.write_text(source, encoding="utf-8")
    if done.returncode == 0:
        return Result(mutant.key, "survived", "", len(chosen))
    if done.returncode < 0:
        return Result(mutant.key, "timeout", "", len(chosen))
    failed = [
        line.split()[1]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR")) and len(line.split()) > 1
    ]
    return Result(mutant.key, "killed", failed[0] if failed else f"exit code {done.returncode}", len(chosen))


def _pytest(tree: Path, folder: Path, chosen: list[str], seconds: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",  # a change within the clock's resolution would find the old bytecode
        "OMP_NUM_THREADS": "1",
        "AIREPAIR_CACHE": str(folder / "cache"),
    }
    words = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", *chosen]
    return subprocess.run(
        words,
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )
