"""How long records of a large grid take to be read, merged and tabled, and how much memory.

    python -m benchmarks.scale --out reports/perf/scale.md

The records are copies of one that was measured, under other keys: 10,000 cells (20 methods, 500 seeds),
of which the longer files hold several attempts. Each size has a process of its own; CPU seconds count,
since other work on the machine hardly matters for them.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
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
from airepair.report import terminal
from airepair.runner.cell import CellResult
from airepair.runner.storage import WEIGHTS, file_result

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "reports" / "digits" / "records.jsonl"
SHARDS = 4
# Seconds per cell: around what filing was measured to take, without and with the waits for the disk.
COSTS = (0.005, 0.02, 0.06)
MIB = 2**20
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """Of one size: CPU seconds of each step, and the most memory of the process in MiB.

    `read` is of four shards, `merge` of what they hold into one, `table` is what a run prints at its end.
    """

    records: int
    cells: int
    megabytes: float
    read: float
    merge: float
    table: float
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
    lines += ["", filing(), "", *simulated()]
    print("\n".join(lines[-10:]))
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
        parts, read = timed(lambda: [Shard(file, scan([file])) for file in shards])
        whole, merge = timed(lambda: merged(parts))
        wrong = [line for part in parts for line in part.found.refused] + whole.conflicts
        if wrong or len(whole.entries) != min(records, cells):
            raise SystemExit(f"{len(whole.entries)} records of {min(records, cells)} cells: {wrong[:1]}")
        _, table = timed(lambda: terminal([entry.record for entry in whole.entries]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Measured(records, cells, size, read, merge, table, peak)


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


def simulated() -> Iterator[str]:
    """How much of 1,000 GPUs' time is spent in cells, if one controller files and sends each of 10,000."""
    yield "Simulated: share of the time of 1,000 GPUs in 10,000 cells, longest first, one controller."
    yield ""
    yield "| controller's time per cell | cells of 10 s | of 60 s | of 600 s |"
    yield "|---|---|---|---|"
    for cost in COSTS:
        shares = (f"{100 * busy(1000, 10_000, mean, cost):.0f} %" for mean in (10.0, 60.0, 600.0))
        yield f"| {1000 * cost:.0f} ms | {' | '.join(shares)} |"


def busy(gpus: int, cells: int, mean: float, cost: float) -> float:
    """The share: lengths are log-normal (sigma .5) with that mean in seconds; for `cost` seconds per cell
    the controller can do nothing else.
    """
    chance = random.Random(0)
    drawn = sorted((chance.lognormvariate(0.0, 0.5) for _ in range(cells)), reverse=True)
    total = sum(drawn)
    lengths = [mean * cells * x / total for x in drawn]
    free, controller = [0.0] * gpus, 0.0
    for length in lengths:
        controller = max(controller, heapq.heappop(free)) + cost
        heapq.heappush(free, controller + length)
    return sum(lengths) / (gpus * max(free))


def header() -> Iterator[str]:
    """What was run, and the head of the table."""
    yield "# Many records"
    yield ""
    yield (
        f"CPU seconds and memory of one process each, `python -m benchmarks.scale`; {os.cpu_count()} "
        "processors, other work beside it."
    )
    yield ""
    yield "| records | cells | MiB of files | read 4 shards | merge them | print Table I | peak MiB |"
    yield "|---|---|---|---|---|---|---|"


def row(found: Measured) -> str:
    """One size."""
    return (
        f"| {found.records:,} | {found.cells:,} | {found.megabytes:,.0f} | {found.read:.2f} s "
        f"| {found.merge:.2f} s | {found.table:.2f} s | {found.peak:,.0f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
