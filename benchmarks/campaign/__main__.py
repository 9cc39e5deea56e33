"""The grid in runs of a few minutes, each going on where the last stopped: for a GPU that is there for
minutes at a time.

    python -m benchmarks.campaign --state state --minutes 9 [--profile gpu] [--stage
    cifar100-resnet18 ...] [--pack DIR] [-- PYTEST OPTIONS]
    python -m benchmarks.campaign --state state --minutes 120 --list benchmarks/cifar_cpu.toml
    --models DIR --cell-seconds 3300 --nice 5

Stages are the profile's (data set, model) columns, in the profile's order, then the performance
benchmarks, a part each. `state` holds all there is between runs: baselines with their training
states (`cache`), records and tables (`records`), compiled kernels, and `done.json`. At the deadline
the running cell is interrupted and comes first in the next run; what is finished is on disk. A cell
is tried once: one that failed, or took longer than `--cell-seconds`, has its record and is left out
until `--retry`. `--pack` cuts what is small of the state (pack.py) into pieces for the way back;
`python -m benchmarks.campaign.carry join` makes it a state again.

With `--list` (stage_list.py) stages are the rows of a list of cells, for a CPU that has hours. What the
repository holds of their records is the beginning of a new state; `python -m benchmarks.collect`
brings the state's records to the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from airepair.errors import AirepairError, UsageError, choose
from airepair.host.atomic import write_atomically
from airepair.host.signals import end_in_order
from airepair.records import Record, scan
from airepair.runner.provenance import device_name
from airepair.runner.storage import RECORDS
from airepair.settings import profile

from ..grid import COLUMNS
from ..perf.__main__ import GROUPS
from . import stage_list
from .chunks import PIECE
from .pack import packed

ROOT = Path(__file__).resolve().parents[2]
PERFORMANCE = "performance"
GRACE = 20  # seconds that an interrupted run gets to write its tables
FINISHED = (0, 1, 5)  # pytest: passed, some cells failed, nothing selected
TESTS = "benchmarks/test_repair.py::test_repair"


def stages(name: str) -> list[str]:
    """The columns of a profile, data sets and models in its order, then the parts of the
    performance benchmarks.
    """
    chosen = profile(name)
    rank = {d: k for k, d in enumerate(chosen.datasets)}
    found = [c for c in COLUMNS if c[0] in rank and (not chosen.models or c[1] in chosen.models)]
    found.sort(key=lambda c: (rank[c[0]], chosen.models.index(c[1]) if chosen.models else 0))
    return [f"{d}-{m}" for d, m in found] + [f"{PERFORMANCE}-{group}" for group in GROUPS]


def command(stage: str, given: argparse.Namespace, state: Path) -> list[str]:
    """What runs one stage."""
    first, _, second = stage.partition("-")
    if first == PERFORMANCE:
        return [
            sys.executable,
            "-m",
            "benchmarks.perf",
            "--only",
            second,
            "--out",
            str(state / "perf" / second),
        ]
    limits = [
        "--resume",
        "--time-limit",
        str(given.cell_seconds),
        "--out",
        str(state / "records"),
        *given.options,
    ]
    if given.listed:
        row = given.listed.rows[stage]
        cells = [f"{TESTS}[{key}]" for key in stage_list.left(row, records_in(state), given.retry)]
        return [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *cells,
            "--profile",
            given.listed.profile,
            *row.words(given.models),
            *limits,
        ]
    cells = ["--dataset", first, "--model", second]
    tried = (
        []
        if given.retry
        else [r.key for r in records_of(stage, state) if r.status not in ("repaired", "unsupported")]
    )
    left_out = [word for key in tried for word in ("--deselect", f"{TESTS}[{key}]")]
    return [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "benchmarks",
        "--profile",
        given.profile,
        *cells,
        *left_out,
        *limits,
    ]


def records_in(state: Path) -> list[Record]:
    """What has been filed."""
    file = state / "records" / RECORDS
    return scan([file]).records if file.exists() else []


def records_of(column: str, state: Path) -> list[Record]:
    """What has been filed of a column's cells."""
    return [r for r in records_in(state) if f"{r.case.dataset}-{r.case.model}" == column]


def left_something(stage: str, given: argparse.Namespace, state: Path) -> bool:
    """Whether there is a result of the stage: a run in which nothing ran (its data is absent, say)
    ends without an error.
    """
    first, _, second = stage.partition("-")
    if given.listed:
        return not stage_list.left(given.listed.rows[stage], records_in(state))
    return (
        any((state / "perf" / second).glob("*.json"))
        if first == PERFORMANCE
        else bool(records_of(stage, state))
    )


def step_back(by: int) -> None:
    """Lowers the priority of this process, and on Linux of its session: with autogroups `nice` does
    nothing across sessions.
    """
    os.nice(by)
    try:
        Path("/proc/self/autogroup").write_text(str(by))
    except OSError:
        return  # no autogroups


def run_stage(words: Sequence[str], state: Path, log: Path, seconds: float, nice: int = 0) -> bool:
    """Runs a stage for at most `seconds`, in a session of its own; returns whether it ended by itself."""
    surroundings = {
        **os.environ,
        "AIREPAIR_CACHE": str(state / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(state / "compiled"),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("ab") as stream:
        lowered = (lambda: step_back(nice)) if nice else None
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env=surroundings,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lowered,
        )
        try:
            return child.wait(timeout=max(0.0, seconds)) in FINISHED
        except subprocess.TimeoutExpired:
            return False
        finally:  # also at Ctrl-C, which a session of its own does not hear
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a stage and what it started, if it has not ended: as Ctrl-C does, then by force."""
    try:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=GRACE)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=GRACE)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every stage is done, 3 when the time ended first, 4 when a stage broke (its log says
    why), 2 for bad input, 130 when it was interrupted.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.campaign", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="what is kept between runs")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="this run ends before that (default: %(default)g)"
    )
    parser.add_argument("--profile", default="gpu")
    parser.add_argument("--stage", action="append", default=[], help="only these stages, in this order")
    parser.add_argument(
        "--list", type=Path, metavar="TOML", help="the rows of a list of cells instead of a profile's columns"
    )
    parser.add_argument("--models", type=Path, metavar="DIR", help="where the model files of the list lie")
    parser.add_argument(
        "--nice", type=int, default=0, metavar="N", help="lower the priority of what runs, 1 to 19"
    )
    parser.add_argument(
        "--cell-seconds", type=float, default=150.0, help="limit of one repair (default: %(default)g)"
    )
    parser.add_argument("--retry", action="store_true", help="also the cells that failed or took too long")
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="put what is small of the state there, in pieces"
    )
    parser.add_argument(
        "--mib", type=float, default=PIECE / 2**20, help="largest piece (default: %(default)g)"
    )
    parser.add_argument(
        "--most", type=float, default=PIECE / 2**20, help="MiB that are packed in all (default: %(default)g)"
    )
    parser.add_argument("options", nargs="*", metavar="-- PYTEST OPTIONS")
    given = parser.parse_args(arguments)
    try:
        given.listed = stage_list.read(given.list) if given.list else None
        wanted = _chosen_stages(given)
        if not 0 <= given.nice <= 19:
            raise UsageError(f"--nice {given.nice}; accepted: 0 to 19")
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
    except KeyboardInterrupt:
        print("campaign: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _chosen_stages(given: argparse.Namespace) -> list[str]:
    """The stages in their order. UsageError for one that is none."""
    if given.listed:
        known = list(given.listed.rows)
        return [choose("stage", stage, known) for stage in given.stage] or known
    wanted = given.stage or stages(given.profile)
    unknown = [
        s
        for s in wanted
        if s.count("-") != 1 or (s.startswith(PERFORMANCE) and s not in stages(given.profile))
    ]
    if unknown:
        raise UsageError(
            f"stage {unknown[0]!r}; accepted: DATASET-MODEL, or {PERFORMANCE}- and one of {', '.join(GROUPS)}"
        )
    return wanted


def _begin(given: argparse.Namespace, state: Path) -> list[str]:
    """Makes the state's folder; the stages that are done.

    A list's are those whose cells all have a record, in the repository or here.
    """
    state.mkdir(parents=True, exist_ok=True)
    if not given.listed:
        file = state / "done.json"
        return list(json.loads(file.read_text())) if file.exists() else []
    ours, filed = ROOT / given.listed.reports / RECORDS, state / "records" / RECORDS
    if ours.exists() and not filed.exists():
        filed.parent.mkdir(exist_ok=True)
        shutil.copyfile(ours, filed)
    records = records_in(state)
    return [
        stage for stage, row in given.listed.rows.items() if not stage_list.left(row, records, given.retry)
    ]


def _waits(stage: str, given: argparse.Namespace, state: Path) -> str:
    """Which processor a listed stage waits for; "" if it can run here."""
    if not given.listed:
        return ""
    here = device_name(torch.device("cpu")), torch.backends.cpu.get_cpu_capability()
    return stage_list.waits_for(given.listed.rows[stage], records_in(state), here)


def _campaign(given: argparse.Namespace, wanted: Sequence[str]) -> int:
    end = time.monotonic() + 60 * given.minutes - GRACE
    state: Path = given.state.absolute()
    done, log = _begin(given, state), state / "log.txt"
    done_file = state / "done.json"
    broken: list[str] = []
    for stage in wanted:
        if stage in done and (given.listed or not given.retry):
            continue
        if end - time.monotonic() < 1:
            break
        if processor := _waits(stage, given, state):
            print(f"{stage}: waits for {processor}, where its column was begun", flush=True)
            continue
        start = time.monotonic()
        ended = run_stage(command(stage, given, state), state, log, end - start, given.nice)
        found = left_something(stage, given, state)
        word = "done" if ended and found else "broken" if ended or time.monotonic() < end else "interrupted"
        if word == "done" and stage not in done:
            done.append(stage)
            if not given.listed:
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
    print(
        f"packed: {listed}"
        + (f"; too large to go along: {len(left)} files, {left[0]} the first" if left else "")
    )


if __name__ == "__main__":
    end_in_order()  # a scheduler's SIGTERM ends the stage, too
    sys.exit(main())
