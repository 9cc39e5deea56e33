"""Whether two runs of the grid gave the same numbers and the same weights, as after a change that must
not change any.

    python -m benchmarks.same_numbers OLD NEW

OLD and NEW are folders with records (and cells/, where weights were kept with --keep-models all).
Every difference is a line; exit code 1 if there is one, 0 if there is none, 2 for bad input. Times
and memory are not compared.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from airepair.errors import UsageError
from airepair.records import Record, read

FACTS = ("weights", "repaired_weights", "pair", "data")


def differences(old: Record, new: Record) -> Iterator[str]:
    """What differs between two records of one cell, a line each."""
    if (old.status, old.reason) != (new.status, new.reason):
        yield f"{old.status} {old.reason} | {new.status} {new.reason}"
    for name in ("before", "after"):
        one, two = getattr(old, name), getattr(new, name)
        yield from (
            f"{name} {k}: {one.get(k)} | {two.get(k)}"
            for k in sorted({*one, *two})
            if one.get(k) != two.get(k)
        )
    yield from (
        f"{k}: {old.subject.get(k)} | {new.subject.get(k)}"
        for k in FACTS
        if old.subject.get(k) != new.subject.get(k)
    )
    if old.budget != new.budget:
        yield f"budget: {dict(old.budget)} | {dict(new.budget)}"
    one, two = ([(p.name, p.images, dict(p.scores)) for p in r.phases] for r in (old, new))
    if one != two:
        yield f"phases: {[p[:2] for p in one]} | {[p[:2] for p in two]}"


def weights(folder: Path, key: str) -> str | None:
    """The digest of a cell's weight file; None if none was kept."""
    file = folder / "cells" / key / "repaired.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def compare(old: Path, new: Path) -> tuple[int, int, list[str]]:
    """How many cells both runs have, how many weight files were equal, and every difference."""
    (one, _), (two, _) = read([old]), read([new])
    before, after = {r.key: r for r in one}, {r.key: r for r in two}
    found = [
        f"{key}: only in {old if key in before else new}" for key in sorted(before.keys() ^ after.keys())
    ]
    equal = 0
    for key in sorted(before.keys() & after.keys()):
        found += [f"{key}: {line}" for line in differences(before[key], after[key])]
        a, b = weights(old, key), weights(new, key)
        equal += a is not None and a == b
        if a != b:
            found.append(f"{key}: weight files {a} | {b}")
    return len(before.keys() & after.keys()), equal, found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.same_numbers",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    given = parser.parse_args(arguments)
    try:
        cells, equal, found = compare(given.old, given.new)
    except UsageError as error:
        print(f"same_numbers: {error}", file=sys.stderr)
        return 2
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{cells} cells in both, {equal} weight files equal, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
