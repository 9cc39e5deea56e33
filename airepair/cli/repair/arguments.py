"""Repairs a model with one or several methods and reports the result: the paper's command line.

examples
  a file of your own, three methods:
    airepair repair --method apricot deeprepair dl2 --pretrained cifar10_resnet34_baseline.pt \\
      --dataset cifar10 --net_arch resnet --depth 34
  a subject of the grid, trained here if need be, with options:
    airepair repair --method deeprepair --dataset digits --net_arch cnn --additional_param "--lr
    0.01 --epoch 20"
  evaluate a model without repairing it:
    airepair repair --testonly --pretrained model.h5 --dataset mnist --input-range 0..255
  show an earlier run, and repeat it:
    airepair repair --input_logs runs/20250101-120000-digits-cnn
    airepair repair --config runs/20250101-120000-digits-cnn/config.toml
  every method on every model file of a folder:
    airepair repair --all --models my_models/ --dataset cifar10

Each run leaves a folder, by default runs/DATE-TIME-SUBJECT: models/ (repaired), report.md,
config.toml, log.txt, records.jsonl, cells/.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from airepair.cli.flags import add_flags
from airepair.cli.repair import config
from airepair.host.arithmetic.setup import set_up
from airepair.paths import cache
from airepair.settings import wants_portable

JOINED = ("--additional_param", "--additional-param")


def words(given: Sequence[str]) -> list[str]:
    """Returns the words with `--additional_param --lr=0.01` as one: argparse would take its value
    for an option.
    """
    found: list[str] = []
    for word in given:
        if found and found[-1] in JOINED:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is repaired, how, and where it goes; then how a brought file is fed."""
    parser.set_defaults(body="airepair.cli.repair.command")
    parser.usage = (
        "airepair repair --method M [M ...] --dataset NAME (--pretrained FILE | --net_arch ARCH) [options]"
    )
    add_flags(parser, "repair")


def prepare(args: argparse.Namespace) -> None:
    """Reads --config (`args.fixed`) and chooses the arithmetic, before the command's body loads
    torch (`args.remark`).
    """
    args.fixed, args.remark = {}, ""
    if args.input_logs:
        args.body = "airepair.cli.repair.logs"
        return
    if args.config:
        args.fixed = config.apply(args, args.config)
    args.remark = set_up(portable=not args.native and wants_portable(_datasets(args), args.profile))


def _datasets(args: argparse.Namespace) -> list[str]:
    """The data sets of the run, as far as they are known before anything is loaded: the named one,
    with --all those of the trained baselines.
    """
    if args.dataset:
        return [args.dataset]
    every_baseline = args.all and not args.models and not args.pretrained
    return [file.name.partition("-")[0] for file in cache().glob("*.safetensors")] if every_baseline else []
