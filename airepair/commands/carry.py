"""Cuts files and folders into pieces for a machine that takes only so much at a time, and puts them together there, digests checked.

airepair carry split data/cifar100.npz pieces/     pieces/cifar100.npz.000, ..., cifar100.npz.pieces.json
airepair carry join pieces/cifar100.npz.pieces.json data/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from airepair.pieces import PIECE, join, split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, with what, and where to."""
    parser.add_argument("what", choices=("split", "join"))
    parser.add_argument("source", type=Path, metavar="PATH", help="split: a file or folder; join: a list of pieces")
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder that gets the pieces, or the whole")
    parser.add_argument("--mib", type=float, default=PIECE / 2**20, help="largest piece in MiB (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    """Prints the path of what it wrote."""
    print(split(args.source, args.out, int(args.mib * 2**20)) if args.what == "split" else join(args.source, args.out))
    return 0
