"""Verifies records: ranges, digests of their data, options against the method's, scores against the
predictions beside them, versions.

airepair verify entries/mine                  checks that run no cell
airepair verify entries/mine --reproduce 3    also re-runs three random cells: in portable
arithmetic their bits must be equal

With --reproduce the folder is marked (verification.json): reported, reproduced or contradicted.
Exit code 1 if anything is contradicted.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from airepair import BENCHMARK_VERSION
from airepair.cli.verification import mark as marks
from airepair.cli.verification.again import repeated
from airepair.cli.verification.answers import contradictions
from airepair.cli.verification.judging import judged
from airepair.cli.verification.mark import Repeated
from airepair.cli.verification.sample import drawn
from airepair.errors import UsageError, one_line, printable
from airepair.records import Record, scan, version
from airepair.records.files import record_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares RECORDS, --reproduce, --sample-seed."""
    parser.add_argument(
        "records", type=Path, help="a record file (.jsonl), or a folder of a run with its cells/"
    )
    parser.add_argument(
        "--reproduce",
        type=int,
        default=0,
        metavar="N",
        help="run a random sample of N cells again, and mark the folder",
    )
    parser.add_argument(
        "--sample-seed",
        type=int,
        default=None,
        metavar="SEED",
        help="repeat the sample of an earlier verification",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 1 if anything is contradicted, else 0."""
    if args.reproduce < 0:
        raise UsageError(f"--reproduce {args.reproduce}; accepted: 0 or more cells")
    found = scan([args.records])
    folder = args.records if args.records.is_dir() else args.records.parent
    wrong, notes = _looked_at(found.records, folder)
    problems = [*found.refused, *wrong]
    for line in problems:
        print(f"contradicted: {printable(line)}")
    for line in [*found.remarks, *notes]:
        print(f"note: {printable(line)}")
    sample = _again(args, found.records) if args.reproduce else []
    mark = marks.marked(record_files([args.records]), len(found.records), sample, problems)
    print(mark)
    if args.reproduce and args.records.is_dir():
        try:
            print(f"wrote {marks.write(mark, folder)}")
        except OSError as error:
            print(f"airepair: the mark cannot be written: {one_line(error)}", file=sys.stderr)
    return 1 if mark.word == "contradicted" else 0


def _looked_at(records: list[Record], folder: Path) -> tuple[list[str], list[str]]:
    """What the records contradict, a sentence each; and what could not be compared or is worth
    knowing, with how many records it is about.
    """
    from airepair.cli.verification.settings import wrong_options
    from airepair.cli.verification.splits import foreign

    problems: list[str] = []
    notes: Counter[str] = Counter()
    for record in sorted(
        records, key=lambda r: (r.case.dataset, r.case.seed, r.key)
    ):  # a data set's splits are drawn once per seed
        notes.update(_worth_knowing(record))
        found = list(contradictions(record, folder))
        if version(record) == BENCHMARK_VERSION:
            for wrong, why in (wrong_options(record), foreign(record)):
                found += wrong
                notes[why] += 1
        problems += [f"{record.key}: {line}" for line in found]
    return problems, [f"{text}: {n} record{'s' * (n > 1)}" for text, n in notes.items() if text]


def _worth_knowing(record: Record) -> Iterator[str]:
    if version(record) != BENCHMARK_VERSION:
        yield (
            f"benchmark version {version(record)}, this is {BENCHMARK_VERSION}: "
            f"neither options nor data were compared"
        )
    if record.status == "repaired" and not record.right:
        yield "no right answers: scores cannot be recomputed without predictions.npz"
    if record.provenance.get("dirty"):
        yield "made from a checkout with changes"


def _again(args: argparse.Namespace, records: list[Record]) -> list[Repeated]:
    """Runs the sample and says how each cell went."""
    seed = random.SystemRandom().randrange(2**32) if args.sample_seed is None else args.sample_seed
    chosen, reasons = drawn(records, args.reproduce, seed)
    for line in reasons:
        print(f"note: {printable(line)}")
    print(
        f"running {len(chosen)} of {len(records)} cells again (--sample-seed {seed}): "
        f"{', '.join(r.key for r in chosen) or 'none can be'}",
        flush=True,
    )
    news = repeated(chosen)
    found = [judged(r, news.get(r.key)) for r in chosen]
    for one in found:
        print(f"{one.word}: {one.key}: {printable(one.why)}")
    return found
