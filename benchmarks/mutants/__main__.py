"""Puts small faults into the code, one at a time, and counts how many the tests notice.

python -m benchmarks.mutants cover    the tests once under coverage (pytest-cov): which test runs which line
python -m benchmarks.mutants run      300 mutants, drawn with a fixed seed; stopped, it goes on where it was
python -m benchmarks.mutants run --again      the survivors once more, after new tests (cover these
first: cover tests/test_new.py)
python -m benchmarks.mutants page     the score, and the survivors with their reasons, into reports/mutants
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError

from .covering import cover, covered
from .page import write
from .trial import run

ROOT = Path(__file__).parents[2]


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0; that of pytest for `cover`; 2 for bad input."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("cover", "run", "page"))
    parser.add_argument("tests", nargs="*", metavar="FILE", help="cover: these test files only")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".mutants"),
        metavar="DIR",
        help="where the work lies (default: .mutants)",
    )
    parser.add_argument("--count", type=int, default=300, help="mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--again", action="store_true", help="run: the survivors too")
    options = parser.parse_args(words)
    folder = options.out.absolute()
    try:
        if options.what == "cover":
            return cover(ROOT, folder / "coverage", options.tests)
        if options.what == "page":
            share = write(folder, ROOT / "reports" / "mutants", options.seed)
            print(f"{100 * share:.1f} % noticed")
            return 0
        for result in run(
            ROOT, folder, covered(folder / "coverage"), options.count, options.seed, again=options.again
        ):
            print(f"{result.status:9}{result.key}  {result.by or f'{result.tests} tests'}", flush=True)
    except AirepairError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
