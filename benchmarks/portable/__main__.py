"""Repairs digits cells in portable arithmetic and prints the digests of their repaired weights and scores.

  python -m benchmarks.portable --write tests/golden/portable.json    what a change that is meant to
  change numbers ends with
  python -m benchmarks.portable --short --method dl2                  one method, small budgets,
  fully connected and convolutional
  python -m benchmarks.portable --short --method dl2 --walk DIR       and every operation of torch
  with digests of what went in and came out
  qemu-x86_64 -cpu EPYC-Rome python3 -m benchmarks.portable ...       the same on another processor
  (Debian's qemu-user)

Exit code 1 where this process cannot compute portably: its numbers would say nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from airepair.host.arithmetic.setup import set_up


def main(words: Sequence[str] | None = None) -> int:
    """Runs the cells; the content of the file, as JSON, goes to standard output without --write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.portable", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--short", action="store_true", help="small budgets on both networks instead of the grid's fc cells"
    )
    parser.add_argument("--method", default="", metavar="A,B", help="of these methods only")
    parser.add_argument(
        "--walk", type=Path, metavar="DIR", help="a file per cell with every operation of the repair"
    )
    parser.add_argument("--canary", action="store_true", help="the canary's digest alone, known or not")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="both kinds of cells, all methods, into this file"
    )
    options = parser.parse_args(words)
    remark = set_up(portable=True)  # before the next line loads torch
    from airepair.host.arithmetic.canary import measured

    from .cells import content, whole

    if remark:
        print(remark, file=sys.stderr)
        return 1
    if options.canary:
        print(measured())
        return 0
    named = tuple(name for name in options.method.split(",") if name)
    return whole(options.write) if options.write else content(options.short, named, options.walk)


if __name__ == "__main__":
    sys.exit(main())
