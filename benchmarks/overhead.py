"""The overhead of a run of the suite: its wall time over the seconds of repairs and exams per worker.

    python -m benchmarks.overhead --out reports/perf/overhead.md
    python -m benchmarks.overhead -- benchmarks --dataset digits --model fc -n 2

Without words of its own it is the README's main job. The wall time counts from the start of the
command until all reports are written. A repair's seconds are those in its record; exams are the
stages before and after it (fixtures `prepared` and `result`). Training of a subject that the cache
lacks is work as well, and is named: run it twice, and the second time there is none. All the rest
is overhead. The exit code is 1 if the ratio is above --most.

Other work on the machine makes the parts longer, not only the whole; the ratio belongs to an idle
machine all the same, since reports are written by one process while the others wait.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from airepair.errors import UsageError
from airepair.host.atomic import write_atomically
from airepair.records import Record, read
from airepair.runner.provenance import commit, processor
from airepair.suite.session import case_of

from .stages import FILE, STARTED, TRAINED, Span

ROOT = Path(__file__).parents[1]
JOB = ("benchmarks", "-n", "2")
MOST = 1.15
EXAMS = ("prepared", "result")


def main(words: Sequence[str] | None = None) -> int:
    """Prints the ratio and its parts; 1 if it is above --most, 2 for bad input."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the page, as Markdown")
    parser.add_argument(
        "--most", type=float, default=MOST, help=f"the largest ratio accepted (default: {MOST})"
    )
    parser.add_argument(
        "words", nargs="*", default=JOB, help=f"what pytest is given (default: {' '.join(JOB)})"
    )
    options = parser.parse_args(words)
    try:
        found = measured(options.words)
    except UsageError as error:
        print(f"overhead: {error}", file=sys.stderr)
        return 2
    head, dirty = commit()
    about = {"commit": f"{str(head)[:10]}{' (dirty)' if dirty else ''}", "processor": processor()}
    text = "\n".join([*page(found, options.words, about), ""])
    print(text)
    if options.out:
        write_atomically(options.out, text.encode())
    return 1 if found.ratio > options.most else 0


@dataclass(frozen=True)
class Overhead:
    """Seconds of a run, summed over its workers, but `wall`: those of the whole command.

    Work: `repairs`, `exams`, and `training` of subjects. Overhead: `loading` of subjects, what is
    done `around` the repairs (copies, digests), `starting` until a worker knows its cells, `between`
    the stages (records, reports of tests), and `ending` after a worker's last stage.
    """

    wall: float
    workers: int
    cells: int
    repairs: float
    exams: float
    training: float
    loading: float
    around: float
    starting: float
    between: float
    ending: float

    @property
    def work(self) -> float:
        """Repairs, exams and training."""
        return self.repairs + self.exams + self.training

    @property
    def ratio(self) -> float:
        """Wall time over the work per worker; infinite if there was none."""
        return self.wall * self.workers / self.work if self.work else math.inf


def overhead(spans: Sequence[Span], records: Sequence[Record], began: float, ended: float) -> Overhead:
    """The overhead of a run from its stages, its records and the two ends of its command.

    UsageError if no cell ran, or if a cell with a repair has no record: what is missing is no work.
    """
    seconds = {r.key: float(r.cost["seconds"]) for r in records if "seconds" in r.cost}
    of_stage: dict[str, float] = {}
    for span in spans:
        of_stage[span.stage] = of_stage.get(span.stage, 0.0) + span.seconds
    cells = {span.cell for span in spans if span.stage == "repaired"}
    if not cells or not seconds:
        raise UsageError(
            "no cell was repaired, so there is nothing to compare; accepted: a run with a repair"
        )
    if lacking := sorted(key for c in cells if (key := _key(c)) not in {r.key for r in records}):
        raise UsageError(f"{', '.join(lacking[:3])} ran and has no record")
    starts = [s for s in spans if s.stage == STARTED]
    stages = [s for s in spans if s.stage not in (STARTED, TRAINED)]
    own = {s.process: [t for t in stages if t.process == s.process] for s in starts}
    ready = {s.process: s.start + s.seconds for s in starts}
    last = {p: max((t.start + t.seconds for t in found), default=ready[p]) for p, found in own.items()}
    repairs, training = math.fsum(seconds.values()), of_stage.get(TRAINED, 0.0)
    return Overhead(
        ended - began,
        len(starts),
        len(cells),
        repairs,
        math.fsum(of_stage.get(name, 0.0) for name in EXAMS),
        training,
        of_stage.get("subject", 0.0) - training,
        of_stage["repaired"] - repairs,
        math.fsum(moment - began for moment in ready.values()),
        math.fsum(last[p] - ready[p] - math.fsum(t.seconds for t in own[p]) for p in own)
        + of_stage.get("spec", 0.0),
        math.fsum(ended - moment for moment in last.values()),
    )


def _key(name: str) -> str:
    """The cell of a test's name."""
    case = case_of(f"::{name}")
    return str(case) if case is not None else name


def measured(words: Sequence[str]) -> Overhead:
    """Runs pytest with these words into a folder of its own. UsageError if it did not run to its end."""
    with tempfile.TemporaryDirectory(prefix="airepair-overhead-") as name:
        out = Path(name) / "out"
        command = [sys.executable, "-m", "pytest", *words, "-p", "benchmarks.stages", "--out", str(out)]
        began = time.time()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        ended = time.time()
        if code not in (0, 1):  # 1: a cell failed its floor, and its seconds count
            raise UsageError(f"{' '.join(command)} ended with exit code {code}; accepted: a run to its end")
        lines = (out / FILE).read_bytes().splitlines()
        spans = [msgspec.json.decode(line, type=Span) for line in lines]
        records, _ = read([out])
        return overhead(spans, records, began, ended)


def page(found: Overhead, words: Sequence[str], about: Mapping[str, str]) -> Iterator[str]:
    """The measurement as Markdown."""
    yield "# Overhead of a run"
    yield ""
    yield (
        f"`pytest {' '.join(words)}`: {found.cells} cells, {found.workers} workers, {found.wall:.1f} s wall, "
        f"{found.work / found.workers:.1f} s of repairs and exams per worker: **{found.ratio:.3f}** "
        f"(wanted: at most {MOST:g})."
    )
    yield ""
    yield f"{', '.join(f'{k} {v}' for k, v in about.items())}; `python -m benchmarks.overhead`."
    yield ""
    yield "| part | seconds per worker | share of the wall time |"
    yield "|---|---|---|"
    rows = {
        "repairs": found.repairs,
        "exams before and after": found.exams,
        "training of subjects": found.training,
        "loading of subjects": found.loading,
        "around the repairs (copies, digests)": found.around,
        "until a worker knows its cells": found.starting,
        "between the stages": found.between,
        "after a worker's last stage": found.ending,
    }
    for title, seconds in rows.items():
        each = seconds / found.workers
        yield f"| {title} | {each:.1f} | {100 * each / found.wall:.1f} % |"


if __name__ == "__main__":
    sys.exit(main())
