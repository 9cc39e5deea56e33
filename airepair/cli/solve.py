"""Computes the smallest change of one layer that repairs given inputs and proves it optimal, for
published problems or your own.

airepair solve net.h5 inputs.npz --norm linf --margin 0 --no-bias

INPUTS is an .npz with `x` (images as the file takes them, unscaled; N x C x H x W, N x H x W x C or
vectors) and, by --require, `y` (wanted classes) or `orders` (R x 3: input, class that must win,
class that must lose). Exit code 0: proved optimal; 1: proved infeasible, or not decided within the
limits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from airepair.cli.flags import add_flags

NEEDS = {"wins": "y", "second-best": "", "orders": "orders"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the question."""
    parser.set_defaults(body="airepair.cli.commands.solve")
    parser.add_argument("model", type=Path, help="a model file of any supported format")
    parser.add_argument("inputs", type=Path, help="an .npz with x, and y or orders")
    parser.add_argument(
        "--layer",
        default="last",
        help="last, a name, or a place from the end such as -2 (then in the decoupled network)",
    )
    parser.add_argument(
        "--norm", default="linf", choices=["linf", "l1", "linf+l1"], help="what is minimised (default: linf)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, help="required margin in logits (default: 0, a tie is enough)"
    )
    parser.add_argument(
        "--bias",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the layer's bias may change",
    )
    parser.add_argument("--bound", type=float, help="largest change of one weight (default: none)")
    parser.add_argument(
        "--require",
        default="wins",
        choices=list(NEEDS),
        help="wins: y; second-best: the runner-up; orders: as listed",
    )
    parser.add_argument("--first", type=int, help="only the first N inputs")
    parser.add_argument(
        "--entries",
        type=int,
        default=20_000_000,
        help="size limit of the program in numbers (default: 20,000,000)",
    )
    add_flags(parser, "solve")
