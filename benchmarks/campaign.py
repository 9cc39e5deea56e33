"""The grid in runs of a few minutes, each going on where the last stopped: for a GPU that is at hand for minutes at a time.

    python -m benchmarks.campaign --state state --minutes 9 [--profile gpu] [--stage cifar100-resnet18 ...] [-- PYTEST OPTIONS]

Stages are the profile's (data set, model) columns, in the profile's order, then the performance benchmarks. `state` holds all there is
between runs: baselines with their training states (`cache`), records and tables (`records`), compiled kernels, and `done.json`. Carry it
to the next machine with `airepair carry`. At the deadline the running cell is interrupted; what is finished is on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError, UsageError
from airepair.filing import write_atomically
from airepair.settings import profile

from .grid import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
PERFORMANCE = "performance"
GRACE = 20  # seconds that an interrupted run gets to write its tables
FINISHED = (0, 1, 5)  # pytest: passed, some cells failed, nothing selected


def stages(name: str) -> list[str]:
    """The columns of a profile, data sets and models in its order, then the performance benchmarks."""
    chosen = profile(name)
    rank = {d: k for k, d in enumerate(chosen.datasets)}
    found = [c for c in COLUMNS if c[0] in rank and (not chosen.models or c[1] in chosen.models)]
    found.sort(key=lambda c: (rank[c[0]], chosen.models.index(c[1]) if chosen.models else 0))
    return [f"{d}-{m}" for d, m in found] + [PERFORMANCE]


def command(stage: str, profile_name: str, state: Path, options: Sequence[str]) -> list[str]:
    """What runs one stage."""
    pytest = [sys.executable, "-m", "pytest", "-q", "--benchmark-quiet"]
    if stage == PERFORMANCE:
        return [sys.executable, "-m", "benchmarks.perf", "--out", str(state / "perf")]
    dataset, _, model = stage.partition("-")
    cells = ["--profile", profile_name, "--dataset", dataset, "--model", model]
    return [*pytest, "benchmarks", *cells, "--resume", "--out", str(state / "records"), *options]


def run_stage(words: Sequence[str], state: Path, log: Path, seconds: float) -> bool:
    """Runs a stage for at most `seconds`; whether it came to its end."""
    surroundings = {
        **os.environ,
        "AIREPAIR_CACHE": str(state / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(state / "compiled"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("ab") as stream:
        child = subprocess.Popen(words, cwd=ROOT, env=surroundings, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        for stop in (None, signal.SIGINT, signal.SIGKILL):
            if stop is not None:
                os.killpg(child.pid, stop)
            try:
                return child.wait(timeout=max(0.0, seconds) if stop is None else GRACE) in FINISHED and stop is None
            except subprocess.TimeoutExpired:
                continue
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every stage is done, 3 when the time ended first, 4 when a stage broke (its log says why), 2 for bad input."""
    parser = argparse.ArgumentParser("python -m benchmarks.campaign", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="what is kept between runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="this run ends before that (default: %(default)g)")
    parser.add_argument("--profile", default="gpu")
    parser.add_argument("--stage", action="append", default=[], help="only these stages, in this order")
    parser.add_argument("options", nargs="*", metavar="-- PYTEST OPTIONS")
    given = parser.parse_args(arguments)
    try:
        wanted = given.stage or stages(given.profile)
        unknown = [s for s in wanted if s != PERFORMANCE and s.count("-") != 1]
        if unknown or given.minutes <= 0:
            raise UsageError(
                f"stage {unknown[0]!r}; accepted: DATASET-MODEL" if unknown else f"--minutes {given.minutes:g}; accepted: above 0"
            )
        return _campaign(given, wanted)
    except AirepairError as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2


def _campaign(given: argparse.Namespace, wanted: Sequence[str]) -> int:
    end = time.monotonic() + 60 * given.minutes - GRACE
    state: Path = given.state.absolute()
    state.mkdir(parents=True, exist_ok=True)
    done_file, log = state / "done.json", state / "log.txt"
    done: list[str] = json.loads(done_file.read_text()) if done_file.exists() else []
    broken: list[str] = []
    for stage in wanted:
        if stage in done:
            continue
        if end - time.monotonic() < 1:
            break
        start = time.monotonic()
        if run_stage(command(stage, given.profile, state, given.options), state, log, end - start):
            done.append(stage)
            write_atomically(done_file, json.dumps(done).encode())
        elif time.monotonic() < end:
            broken.append(stage)
        print(
            f"{stage}: {'done' if stage in done else 'broken' if stage in broken else 'interrupted'} after {time.monotonic() - start:.0f} s",
            flush=True,
        )
    left = [s for s in wanted if s not in done and s not in broken]
    print(
        f"{len([s for s in wanted if s in done])} of {len(wanted)} stages done; log in {log}"
        + (f"; left: {', '.join(left)}" if left else "")
    )
    return 4 if broken else 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
