"""Trains a baseline (the paper's train_baseline.py) and leaves a folder: model.pt, early.pt, the
checkpoints asked for, log.jsonl.

early.pt is the state after a twentieth of the epochs: `airepair repair --pretrained
FOLDER/model.pt` starts Apricot's submodels there. The same command continues a training that was
stopped or killed. The recipe is the data set's; options given here replace parts of it.
--until-accuracy watches the validation split, never test.
"""

from __future__ import annotations

import argparse

from airepair.cli.flags import add_flags
from airepair.host.arithmetic.setup import set_up
from airepair.settings import wants_portable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the paper's flags, the recipe's, and where to."""
    parser.set_defaults(body="airepair.cli.commands.train")
    add_flags(parser, "train")
    parser.add_argument(
        "--until-accuracy",
        type=float,
        metavar="A",
        help="stop after the first epoch with this validation accuracy (0..1)",
    )
    parser.add_argument(
        "--keep-epochs",
        default="",
        metavar="N,N",
        help="also keep the state after these epochs, as epoch-N.pt",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the split")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--lr", type=float, help="instead of the recipe's")
    parser.add_argument("--batch_size", "--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--clean",
        action="store_true",
        help="train on clean labels (the digits recipe adds 15 %% label noise and swaps 40 %% of two "
        "classes)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads (1: the same weights on every run)"
    )


def prepare(args: argparse.Namespace) -> None:
    """Chooses the arithmetic, before the command's body loads torch; `args.remark` is what there is
    to say of it.
    """
    args.remark = set_up(portable=not args.native and wants_portable([args.dataset], None))
