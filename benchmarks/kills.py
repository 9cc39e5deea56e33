"""Kills a run of the suite at random moments, resumes it, and counts what was lost or doubled.

    python -m benchmarks.kills --kills 100 --out kills/ [-- PYTEST WORDS]

One run is left alone: its tables are the reference, its length the span from which the moments are
drawn. Then runs are started with `--resume`, and in each one SIGKILL hits the controller, a worker
or all of them at once, until the grid of that folder is complete and its tables are compared; the
next folder begins. The exit code is 1 if a finished record vanished, a cell has two finished
records, a line is no record, a process was still there two seconds later, or a table differs.

With `--starting` only controllers are killed, within seconds of the start of their first worker, and
what is counted is how many processes were still there two seconds later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from airepair.errors import UsageError
from airepair.records import FINISHED, Record

CELLS = (
    "benchmarks --dataset digits --model fc --method noop,random --seeds 0,1,2 --no-ablations "
    "--device cpu -n 2 -q -p no:cacheprovider"
)
TABLES = ("table1.csv", "extended.csv")
STARTING = 5.0  # seconds in which a worker loads pytest and torch
GRACE = 2.0  # seconds in which the processes of a killed controller must end


@dataclass
class Tally:
    """What was counted so far."""

    kills: int = 0
    folders: int = 0
    lost: int = 0
    doubled: int = 0
    unreadable: int = 0
    left_running: int = 0
    tables_that_differ: int = 0
    ended_before: int = 0  # runs that were over when their moment came

    @property
    def faults(self) -> int:
        """What must be 0."""
        return self.lost + self.doubled + self.unreadable + self.left_running + self.tables_that_differ


def main() -> int:
    """Prints a line per kill and the tally at the end; it is in OUT/tally.json too, after each kill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of what is killed")
    parser.add_argument("--starting", action="store_true", help="kill controllers whose workers are starting")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "words", nargs="*", default=CELLS.split(), help="what pytest is given; default: six cells of digits"
    )
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"--out {args.out} is there; accepted: a new folder")
    if args.starting:
        tally = while_starting(args.words, args.out, args.kills, random.Random(args.seed))
        print(json.dumps(asdict(tally)))
        return 1 if tally.faults else 0
    start = time.monotonic()
    finish(args.words, args.out / "reference")
    span = time.monotonic() - start
    reference, tally, chance = tables(args.out / "reference"), Tally(), random.Random(args.seed)
    print(
        f"the reference run took {span:.0f} s and has {len(finished(args.out / 'reference', tally))} cells",
        flush=True,
    )
    while tally.kills < args.kills:
        folder = args.out / f"run{tally.folders}"
        until_complete(
            args.words, folder, len(finished(args.out / "reference", tally)), span, args.kills, tally, chance
        )
        finish(args.words, folder)
        tally.folders += 1
        tally.tables_that_differ += tables(folder) != reference
        (args.out / "tally.json").write_text(json.dumps(asdict(tally), indent=1))
    print(json.dumps(asdict(tally)))
    return 1 if tally.faults else 0


def command(words: list[str], folder: Path) -> list[str]:
    """A run that resumes."""
    return [sys.executable, "-m", "pytest", *words, "--resume", "--out", str(folder)]


def finish(words: list[str], folder: Path) -> None:
    """A run that is left alone."""
    subprocess.run(command(words, folder), stdout=subprocess.DEVNULL, check=False)


def while_starting(words: list[str], out: Path, kills: int, chance: random.Random) -> Tally:
    """Kills so many controllers within STARTING seconds of the start of their first worker."""
    tally = Tally()
    while tally.kills < kills:
        process = subprocess.Popen(
            command(words, out / "starting"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not has_worker(process.pid):
            time.sleep(0.02)
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}, and no worker was started")
        moment = chance.uniform(0, STARTING)
        time.sleep(moment)
        tally.left_running += kill(process, "controller", chance)
        tally.kills += 1
        print(f"{tally.kills}: {moment:.1f} s after its first worker; faults {tally.faults}", flush=True)
    return tally


def has_worker(controller: int) -> bool:
    """Whether xdist has started one: execnet's processes read what they are to do from their input."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any("stdin.readline" in " ".join(p.cmdline()) for p in psutil.Process(controller).children())
    return False


def until_complete(
    words: list[str], folder: Path, cells: int, span: float, kills: int, tally: Tally, chance: random.Random
) -> None:
    """Kills and resumes until all cells are finished or the kills are used up."""
    known: dict[str, str] = {}
    while len(known) < cells and tally.kills < kills:
        what, moment = chance.choice(["controller", "worker", "all"]), chance.uniform(0, span)
        process = subprocess.Popen(
            command(words, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moment)
            tally.ended_before += 1
        except subprocess.TimeoutExpired:
            tally.left_running += kill(process, what, chance)
            tally.kills += 1
        now = finished(folder, tally)
        tally.lost += len([key for key, line in known.items() if now.get(key) != line])
        known = now
        print(
            f"{tally.kills}: {what} after {moment:.1f} s: {len(known)} of {cells} cells; "
            f"faults {tally.faults}",
            flush=True,
        )
        (folder.parent / "tally.json").write_text(json.dumps(asdict(tally), indent=1))


def kill(process: subprocess.Popen[bytes], what: str, chance: random.Random) -> int:
    """SIGKILL; how many processes of a killed controller are still there after the grace.

    A run that lost a worker goes on to its end.
    """
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    if what == "worker" and children:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(children).kill()
        process.wait()
        return 0
    for child in children if what == "all" else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=GRACE)
    return len(alive)


def finished(folder: Path, tally: Tally) -> dict[str, str]:
    """Key -> line of each finished cell. A torn last line is no fault: the next run cuts it off."""
    file = folder / "records.jsonl"
    text = file.read_text() if file.exists() else ""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for line in text.splitlines(keepends=True):
        try:
            record = Record.from_json(line)
        except UsageError:
            tally.unreadable += line.endswith("\n")
            continue
        if record.status in FINISHED:
            counts[record.key] += 1
            found[record.key] = line
    tally.doubled += sum(n - 1 for n in counts.values())
    return found


def tables(folder: Path) -> dict[str, str]:
    """The tables that hold scores; when and in which commit they were made is no difference."""
    return {name: re.sub(r"commit[^\n]*", "commit", (folder / name).read_text()) for name in TABLES}


if __name__ == "__main__":
    raise SystemExit(main())
