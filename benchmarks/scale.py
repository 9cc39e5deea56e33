"""How long records of a large grid take to be read, merged and tabled, and how much memory.

    python -m benchmarks.scale --out reports/perf/scale.md

The records are copies of one that was measured, under other keys: 10,000 cells (20 methods, 500 seeds),
of which the longer files hold several attempts. Each size has a process of its own; CPU seconds count,
since other work on the machine hardly matters for them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from airepair.case import Case
from airepair.cli.verification.merging import Shard, merged
from airepair.host.atomic import write_atomically
from airepair.methods import METHODS
from airepair.records import Record, scan
from airepair.report import documents, terminal
from airepair.report.cells import grid
from airepair.runner.cell import CellResult
from airepair.runner.storage import WEIGHTS, file_result

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "reports" / "digits" / "records.jsonl"
SEEDS, SHARDS = 500, 4
MIB = 2**20
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """Of one size: CPU seconds of each step, and the most memory of the process in MiB.

    `read` is of one file, `merge` of four shards that hold the same records; `table` is Table I, `all`
    every table (measured for one record per cell only).
    """

    records: int
    cells: int
    megabytes: float
    read: float
    merge: float
    table: float
    all: float | None
    peak: float


def main() -> int:
    """Prints a row as each size ends, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="the table, as Markdown")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(asdict(measured(args.one, args.cells))))
        return 0
    lines = list(header())
    print("\n".join(lines))
    for size in args.records:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(size), "--cells", str(args.cells)]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        lines.append(row(Measured(**json.loads(found))))
        print(lines[-1], flush=True)
    lines += ["", filing()]
    print(lines[-1])
    if args.out:
        write_atomically(args.out, "\n".join([*lines, ""]).encode())
    return 0


def measured(records: int, cells: int) -> Measured:
    """Writes the records into a temporary folder, and measures them in this process."""
    with tempfile.TemporaryDirectory(prefix="airepair-scale-") as name:
        folder = Path(name)
        shards = [folder / f"{i}.jsonl" for i in range(SHARDS)]
        lay(shards, records, cells)
        size = sum(file.stat().st_size for file in shards) / MIB
        found, read = timed(lambda: scan(shards))
        assert not found.refused, found.refused[0]
        assert len(found.records) == min(records, cells)
        whole, merge = timed(lambda: merged([Shard(file, scan([file])) for file in shards]))
        assert not whole.conflicts, whole.conflicts[0]
        assert len(whole.entries) == len(found.records)
        _, table = timed(lambda: terminal(found.records))
        rest = timed(lambda: documents(grid(found.records), None))[1] if records == cells else None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Measured(records, cells, size, read, merge, table, rest, peak)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The value, and the CPU seconds that it took."""
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def lay(shards: list[Path], records: int, cells: int) -> None:
    """Writes the records: each cell into one shard, its attempts one after the other."""
    streams = [file.open("wb") for file in shards]
    try:
        for number, line in enumerate(lines_of(records, cells)):
            streams[number % cells % len(streams)].write(line)
    finally:
        for stream in streams:
            stream.close()


def lines_of(records: int, cells: int) -> Iterator[bytes]:
    """The record that was measured, under the key of each cell, again and again."""
    text = next(line for line in TEMPLATE.read_text().splitlines() if '"digits-fc-noop-s0"' in line)
    head = Record.from_json(text)
    body = head.to_json().replace(head.key, "@KEY@", 1)
    case = json.dumps(asdict(head.case))
    assert case in body
    methods = list(METHODS.builtin)[:20]
    for number in range(records):
        seed, method = divmod(number % cells, len(methods))
        own = Case("digits", "fc", methods[method], seed)
        yield (body.replace("@KEY@", str(own), 1).replace(case, json.dumps(asdict(own)), 1) + "\n").encode()


def filing(results: int = 100) -> str:
    """What the controller of a cluster pays per result: its files, the record with its fsync, best.json."""
    files = {"predictions.npz": bytes(40_000), "log.txt": bytes(2_000), WEIGHTS: bytes(200_000)}
    with tempfile.TemporaryDirectory(prefix="airepair-scale-") as name:
        records = [Record.from_json(line) for line in lines_of(results, results)]
        start = time.monotonic()
        _, seconds = timed(lambda: [file_result(Path(name), CellResult(r, files), "best") for r in records])
        wall = time.monotonic() - start
    kilobytes, cpu, all_ = sum(map(len, files.values())) // 1000, 1000 * seconds, 1000 * wall
    return (
        f"Filing a result of {kilobytes} kB takes {cpu / results:.1f} ms of CPU, and {all_ / results:.1f} ms "
        f"with the waits for the disk (mean of {results})."
    )


def header() -> Iterator[str]:
    """What was run, and the head of the table."""
    yield "# Many records"
    yield ""
    yield (
        f"CPU seconds and memory of one process each, `python -m benchmarks.scale`; {os.cpu_count()} "
        "processors, other work beside it."
    )
    yield ""
    yield "| records | cells | MiB of files | read | merge of 4 shards | Table I | every table | peak MiB |"
    yield "|---|---|---|---|---|---|---|---|"


def row(found: Measured) -> str:
    """One size."""
    rest = "" if found.all is None else f"{found.all:.2f} s"
    return (
        f"| {found.records:,} | {found.cells:,} | {found.megabytes:,.0f} | {found.read:.2f} s "
        f"| {found.merge:.2f} s | {found.table:.2f} s | {rest} | {found.peak:,.0f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
