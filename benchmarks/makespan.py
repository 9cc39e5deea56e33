"""How long 40 cells of mixed length take under the suite's scheduler and under xdist's own, beside the
least possible.

    python -m benchmarks.makespan --out reports/perf/makespan.md

The cells sleep, so that other work on the machine hardly matters, and their lengths are known
beforehand, as durations.json knows those of cells that ran before. A makespan is the time from the
first cell's start to the last one's end: what xdist and the imports take before is the same for
all. No schedule is shorter than the longest cell or the work per worker.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from airepair.host.atomic import write_atomically
from airepair.suite.plugin import MODULES

OWN = "longest first (the suite's)"
SCHEDULERS = {OWN: (), **{name: ("--dist", name) for name in ("load", "worksteal", "loadgroup")}}
SPREAD = (
    1.2  # standard deviation of the logarithm of the lengths: the longest is some fifty times the shortest
)
ROOT = Path(__file__).parents[1]
SUITE = """
import json, time
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
GRID = ModuleType("grid")
GRID.COLUMNS, GRID.DEFAULT_DATASETS = [("digits", "fc")], ["digits"]
GRID.methods, GRID.seeds, GRID.in_profile = lambda: ["noop"], lambda *_: (0,), lambda *_: True


def test_repair(case):
    start = time.monotonic()
    time.sleep(json.loads((HERE / "lengths.json").read_text())[case.seed])
    with (HERE / "spans").open("a") as file:
        file.write(f"{start} {time.monotonic()}\\n")
"""


def main() -> int:
    """Prints a row as each run ends, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=80.0, help="sum of the lengths of all cells")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    parser.add_argument("--out", type=Path, help="the table, as Markdown")
    args = parser.parse_args()
    cells = lengths(args.cells, args.seconds, args.seed)
    lines = list(header(cells))
    print("\n".join(lines))
    for workers in args.workers:
        for name, words in SCHEDULERS.items():
            lines.append(row(name, workers, makespan(cells, workers, words), bound(cells, workers)))
            print(lines[-1], flush=True)
    if args.out:
        write_atomically(args.out, "\n".join([*lines, ""]).encode())
    return 0


def lengths(cells: int, seconds: float, seed: int) -> list[float]:
    """Lengths of cells in random order, log-normal, with that sum."""
    chance = random.Random(seed)
    drawn = [chance.lognormvariate(0.0, SPREAD) for _ in range(cells)]
    return [round(seconds * x / sum(drawn), 3) for x in drawn]


def bound(cells: Sequence[float], workers: int) -> float:
    """No schedule is shorter."""
    return max(sum(cells) / workers, *cells)


def makespan(cells: Sequence[float], workers: int, words: Sequence[str]) -> float:
    """Runs the cells once: seconds from the first start to the last end."""
    with tempfile.TemporaryDirectory(prefix="airepair-makespan-") as name:
        folder = Path(name)
        plugins = [module for module in MODULES if module.startswith("fixtures.")]
        (folder / "conftest.py").write_text(f"pytest_plugins = {plugins}\n")
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_repair.py").write_text(SUITE)
        (folder / "lengths.json").write_text(json.dumps(cells))
        known = {
            f"test_repair.py::test_repair[digits-fc-noop-s{i}]": seconds for i, seconds in enumerate(cells)
        }
        (folder / "durations.json").write_text(json.dumps(known))
        own = [
            "--dataset",
            "digits",
            "--seeds",
            ",".join(map(str, range(len(cells)))),
            "--device",
            "cpu",
            "--out",
            name,
        ]
        command = [
            sys.executable,
            "-m",
            "pytest",
            name,
            "-q",
            "-p",
            "no:cacheprovider",
            *own,
            "-n",
            str(workers),
            *words,
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        spans = (folder / "spans").read_text().split() if (folder / "spans").exists() else []
    if done.returncode or len(spans) != 2 * len(cells):
        raise SystemExit(
            f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return max(map(float, spans[1::2])) - min(map(float, spans[::2]))


def header(cells: Sequence[float]) -> Iterator[str]:
    """What was run, and the head of the table."""
    yield "# Makespans"
    yield ""
    yield (
        f"{len(cells)} cells that sleep for {min(cells):.2f} to {max(cells):.2f} s, "
        f"{sum(cells):.1f} s in all, lengths known beforehand;"
    )
    yield (
        f"one run each, `python -m benchmarks.makespan --seconds {sum(cells):.0f}`; {os.cpu_count()} "
        f"processors. "
        f"The least possible is max(sum / workers, longest)."
    )
    yield ""
    yield "| workers | scheduler | makespan | least possible | times the least |"
    yield "|---|---|---|---|---|"


def row(name: str, workers: int, seconds: float, least: float) -> str:
    """One run."""
    return f"| {workers} | {name} | {seconds:.2f} s | {least:.2f} s | {seconds / least:.3f} |"


if __name__ == "__main__":
    raise SystemExit(main())
