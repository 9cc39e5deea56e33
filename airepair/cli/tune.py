"""Tunes methods fairly: the same number of trials and the same budget of training images for each,
selection on validation alone.

airepair tune --dataset digits --model fc,cnn --method finetune,random,apricot,deeprepair,dl2 --trials 12

Trial 0 is the default settings. Trials are kept in --out (study.journal, trials.jsonl): the same
command continues where it stopped, and several processes with the same --out share the trials. The
best settings are written to OUT/tuned.toml; --install puts them into the table that `--auto` reads.
The tuning seeds are not the grid's (0, 1, 2, ...).
"""

from __future__ import annotations

import argparse

from airepair.cli.flags import add_flags
from airepair.host.arithmetic.setup import set_up
from airepair.settings import wants_portable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is tuned, and how much a trial may use."""
    parser.set_defaults(body="airepair.cli.commands.tune")
    add_flags(parser, "tune")
    parser.add_argument(
        "--open", action="store_true", help="search only the options for which no publication states a value"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=12,
        help="trials of each method, the default settings included (default: 12)",
    )
    parser.add_argument(
        "--images",
        type=int,
        help="training images of each repair (default: what finetune's settings would see)",
    )
    parser.add_argument(
        "--install", action="store_true", help="put the rows into the table that --auto reads"
    )


def prepare(args: argparse.Namespace) -> None:
    """Chooses the arithmetic, before the command's body loads torch; `args.remark` is what there is
    to say of it.
    """
    args.remark = set_up(portable=not args.native and wants_portable(args.dataset.split(","), args.profile))
