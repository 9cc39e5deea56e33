"""Puts small faults into the code, one at a time, and counts how many the tests notice.

python -m benchmarks.mutants cover    the tests of the rooms once under coverage: which test runs which line
python -m benchmarks.mutants run      300 mutants, drawn with a fixed seed
python -m benchmarks.mutants run --again      the survivors once more, after new tests (cover these
first: cover tests/methods/test_new.py); --again KEY ... those alone. In a new folder, --score takes
the results of the others from the committed score
python -m benchmarks.mutants page     the score, and the survivors with their reasons, into reports/mutants

Stopped, `cover` and `run` go on where they were; `page --so-far` shows what there is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError

from .covering import cover, covered
from .page import SCORE, write
from .trial import run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "reports" / "mutants"


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0; that of pytest for `cover`; 2 for bad input."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("cover", "run", "page"))
    parser.add_argument("tests", nargs="*", metavar="FILE", help="cover: these test files, or tests, only")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".mutants"),
        metavar="DIR",
        help="where the work lies (default: .mutants)",
    )
    parser.add_argument("--count", type=int, default=300, help="mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument(
        "--again", nargs="*", metavar="KEY", help="run: the survivors too (those whose keys begin so)"
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="run: a new folder goes on from reports/mutants/score.json",
    )
    parser.add_argument("--so-far", action="store_true", help="page: of a run that has not ended")
    options = parser.parse_args(words)
    folder = options.out.absolute()
    try:
        if options.what == "cover":
            return cover(ROOT, folder / "coverage", options.tests)
        if options.what == "page":
            share = write(folder, PAGE, options.seed, so_far=options.so_far)
            print(f"{100 * share:.1f} % noticed")
            return 0
        for result in run(
            ROOT,
            folder,
            covered(folder / "coverage"),
            (options.count, options.seed),
            again=options.again,
            score=PAGE / SCORE if options.score else None,
        ):
            print(f"{result.status:9}{result.key}  {result.by or f'{result.tests} tests'}", flush=True)
    except AirepairError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
