"""Cuts files and folders into pieces for a machine that takes only so much at a time, and puts them
together there, digests checked.

python -m benchmarks.campaign.carry split data/cifar100.npz pieces/     pieces/cifar100.npz.000,
..., cifar100.npz.pieces.json
python -m benchmarks.campaign.carry join pieces/cifar100.npz.pieces.json data/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError

from .chunks import PIECE, join, split


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the path of what it wrote; 2 and one line for bad input."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.campaign.carry",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("what", choices=("split", "join"))
    parser.add_argument(
        "source", type=Path, metavar="PATH", help="split: a file or folder; join: a list of pieces"
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder that gets the pieces, or the whole")
    parser.add_argument(
        "--mib", type=float, default=PIECE / 2**20, help="largest piece in MiB (default: %(default)g)"
    )
    args = parser.parse_args(arguments)
    try:
        print(
            split(args.source, args.out, int(args.mib * 2**20))
            if args.what == "split"
            else join(args.source, args.out)
        )
    except AirepairError as error:
        print(f"carry: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
