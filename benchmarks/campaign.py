"""The grid in runs of a few minutes, each going on where the last stopped: for a GPU that is at hand for minutes at a time.

    python -m benchmarks.campaign --state state --minutes 9 [--profile gpu] [--stage cifar100-resnet18 ...] [--pack DIR] [-- PYTEST OPTIONS]

Stages are the profile's (data set, model) columns, in the profile's order, then the performance benchmarks, a part each. `state` holds all there
is between runs: baselines with their training states (`cache`), records and tables (`records`), compiled kernels, and `done.json`. At the
deadline the running cell is interrupted and comes first in the next run; what is finished is on disk. A cell is tried once: one that failed, or
took longer than `--cell-seconds`, has its record and is left out until `--retry`. `--pack` cuts what is small of the state (luggage.py) into
pieces for the way back; `airepair carry join` makes it a state again.
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
from airepair.filing import RECORDS, write_atomically
from airepair.pieces import PIECE
from airepair.records import Record, scan
from airepair.settings import profile

from .grid import COLUMNS
from .luggage import packed
from .perf.__main__ import GROUPS

ROOT = Path(__file__).resolve().parents[1]
PERFORMANCE = "performance"
GRACE = 20  # seconds that an interrupted run gets to write its tables
FINISHED = (0, 1, 5)  # pytest: passed, some cells failed, nothing selected
TESTS = "benchmarks/test_repair.py::test_repair"


def stages(name: str) -> list[str]:
    """The columns of a profile, data sets and models in its order, then the parts of the performance benchmarks."""
    chosen = profile(name)
    rank = {d: k for k, d in enumerate(chosen.datasets)}
    found = [c for c in COLUMNS if c[0] in rank and (not chosen.models or c[1] in chosen.models)]
    found.sort(key=lambda c: (rank[c[0]], chosen.models.index(c[1]) if chosen.models else 0))
    return [f"{d}-{m}" for d, m in found] + [f"{PERFORMANCE}-{group}" for group in GROUPS]


def command(stage: str, given: argparse.Namespace, state: Path) -> list[str]:
    """What runs one stage."""
    first, _, second = stage.partition("-")
    if first == PERFORMANCE:
        return [sys.executable, "-m", "benchmarks.perf", "--only", second, "--out", str(state / "perf" / second)]
    pytest = [sys.executable, "-m", "pytest", "-q", "benchmarks", "--profile", given.profile, "--resume"]
    cells = ["--dataset", first, "--model", second, "--time-limit", str(given.cell_seconds), "--out", str(state / "records")]
    tried = [] if given.retry else [r.key for r in records_of(stage, state) if r.status not in ("repaired", "unsupported")]
    left_out = [word for key in tried for word in ("--deselect", f"{TESTS}[{key}]")]
    return [*pytest, *cells, *left_out, *given.options]


def records_of(stage: str, state: Path) -> list[Record]:
    """What has been filed of a stage's cells."""
    file = state / "records" / RECORDS
    found = scan([file]).records if file.exists() else []
    return [r for r in found if f"{r.case.dataset}-{r.case.model}" == stage]


def left_something(stage: str, state: Path) -> bool:
    """Whether there is a result of the stage: a run in which nothing ran (its data is absent, say) ends without an error."""
    first, _, second = stage.partition("-")
    return any((state / "perf" / second).glob("*.json")) if first == PERFORMANCE else bool(records_of(stage, state))


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
    parser.add_argument("--cell-seconds", type=float, default=150.0, help="limit of one repair (default: %(default)g)")
    parser.add_argument("--retry", action="store_true", help="also the cells that failed or took too long")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="put what is small of the state there, in pieces")
    parser.add_argument("--mib", type=float, default=PIECE / 2**20, help="largest piece (default: %(default)g)")
    parser.add_argument("--most", type=float, default=PIECE / 2**20, help="MiB that are packed in all (default: %(default)g)")
    parser.add_argument("options", nargs="*", metavar="-- PYTEST OPTIONS")
    given = parser.parse_args(arguments)
    try:
        wanted = given.stage or stages(given.profile)
        unknown = [s for s in wanted if s.count("-") != 1 or (s.startswith(PERFORMANCE) and s not in stages(given.profile))]
        if unknown:
            raise UsageError(f"stage {unknown[0]!r}; accepted: DATASET-MODEL, or {PERFORMANCE}- and one of {', '.join(GROUPS)}")
        for name in ("minutes", "cell_seconds", "mib", "most"):
            if getattr(given, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(given, name):g}; accepted: above 0")
        code = _campaign(given, wanted)
        if given.pack is not None:
            _pack(given)
        return code
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
        if stage in done and not given.retry:
            continue
        if end - time.monotonic() < 1:
            break
        start = time.monotonic()
        ended = run_stage(command(stage, given, state), state, log, end - start)
        word = "done" if ended and left_something(stage, state) else "broken" if ended or time.monotonic() < end else "interrupted"
        if word == "done" and stage not in done:
            done.append(stage)
            write_atomically(done_file, json.dumps(done).encode())
        elif word == "broken":
            broken.append(stage)
        nothing = " (nothing ran)" if ended and word == "broken" else ""
        print(f"{stage}: {word}{nothing} after {time.monotonic() - start:.0f} s", flush=True)
    left = [s for s in wanted if s not in done and s not in broken]
    print(
        f"{len([s for s in wanted if s in done])} of {len(wanted)} stages done; log in {log}"
        + (f"; left: {', '.join(left)}" if left else "")
    )
    return 4 if broken else 3 if left else 0


def _pack(given: argparse.Namespace) -> None:
    listed, left = packed(given.state.absolute(), given.pack, int(given.mib * 2**20), int(given.most * 2**20))
    print(f"packed: {listed}" + (f"; too large to go along: {len(left)} files, {left[0]} the first" if left else ""))


if __name__ == "__main__":
    sys.exit(main())
