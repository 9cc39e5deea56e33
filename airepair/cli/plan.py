"""Writes the spec of each selected cell as a file, so that a cluster's tasks can run one each
(docs/slurm.md).

airepair plan --dataset cifar10 --method apricot,finetune --seeds 0,1,2 --device cuda --out specs/

It takes the selection and the options of `airepair bench` and runs nothing. `--device` names the
device of the machines that will run the cells: the profile depends on it.
"""

from __future__ import annotations

import argparse

from airepair.cli.bench import suite
from airepair.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares --out, and what pytest takes."""
    parser.prefix_chars = "\0"  # as for `airepair bench`: no word is an option of ours
    parser.add_argument(
        "options",
        nargs="*",
        metavar="SELECTION",
        help="as of `airepair bench`; --out DIR: where the specs go",
    )


def run(args: argparse.Namespace) -> int:
    """Returns pytest's exit code; 2 without --out."""
    words = [
        part
        for word in args.options
        for part in ([*word.split("=", 1)] if word.startswith("--out=") else [word])
    ]
    if words in (["-h"], ["--help"]):
        print(f"usage: airepair plan SELECTION --out DIR\n\n{__doc__}")
        return 0
    if "--out" not in words[:-1]:
        raise UsageError("plan: --out DIR is missing; accepted: a new folder for the specs")
    return suite(["--plan" if word == "--out" else word for word in words] + ["-q", "--no-header"])
