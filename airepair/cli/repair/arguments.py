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
from pathlib import Path

from airepair.arithmetic.setup import NATIVE, set_up
from airepair.cli.repair import config
from airepair.paths import cache
from airepair.settings import wants_portable
from airepair.subjects.user_model.input_spec import add_feeding_arguments

JOINED = ("--additional_param", "--additional-param")


def words(given: Sequence[str]) -> list[str]:
    """The words with `--additional_param --lr=0.01` as one: argparse would take its value for an option."""
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
    what = parser.add_argument_group("what is repaired")
    what.add_argument(
        "--pretrained",
        "--pre-trained",
        metavar="FILE",
        help="a model file of any format of docs/formats.md (default: ours)",
    )
    what.add_argument(
        "--dataset", metavar="NAME", help="mnist, fmnist, cifar10, cifar100, digits, npz:PATH or folder:PATH"
    )
    arch = (
        "resnet, cnn, mnist, fmnist, fc, a name of `airepair list models`, "
        "package.module:factory or file.py:Net"
    )
    what.add_argument(
        "--net_arch",
        "--net-arch",
        metavar="ARCH",
        help=f"architecture: {arch}; detected from the file if possible",
    )
    what.add_argument(
        "--depth", type=int, metavar="N", help="depth of a resnet: 18, 34, 50 or 20, 32, 44, 56"
    )
    what.add_argument(
        "--all", action="store_true", help="every method (or --method) on every pre-trained model"
    )
    what.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="with --all: the folder of model files (default: the trained baselines)",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--method",
        nargs="+",
        metavar="M",
        help="one or more of `airepair list methods`, a+b, package.module:Class, tool:NAME",
    )
    how.add_argument(
        "--auto",
        action="store_true",
        help="also run METHOD[tuned] if `airepair tune` has found settings for the data set and model",
    )
    texts = "`--lr 0.01` goes to every method with that option, `--apricot.rate 0.5` to apricot only"
    how.add_argument(
        "--additional_param", "--additional-param", action="append", metavar='"--lr 0.01"', help=texts
    )
    how.add_argument(
        "--set",
        action="append",
        dest="assignments",
        metavar="METHOD.OPTION=VALUE",
        help="an option of one method",
    )
    how.add_argument("--seeds", "--seed", metavar="0,1,2", help="seeds (default: 0)")
    how.add_argument(
        "--profile",
        metavar="NAME",
        help="data budget: smoke, cpu, cifar-cpu, paper, gpu, or none for the whole data set (default: "
        "the grid's)",
    )
    how.add_argument("--time-limit", type=float, metavar="SECONDS", help="time limit of one repair")
    how.add_argument("--device", metavar="DEVICE", help="auto (default), cpu, cuda or cuda:N")
    how.add_argument("--native", action="store_true", help=NATIVE)
    how.add_argument(
        "--pgd", action="store_true", help="also attack every model by projected gradient descent"
    )
    instead = parser.add_argument_group("instead of a repair")
    instead.add_argument(
        "--testonly",
        "--test-only",
        action="store_true",
        help="evaluate the model without repair: accuracy, constraint, confusion",
    )
    instead.add_argument(
        "--input_logs",
        "--input-logs",
        type=Path,
        metavar="FILE|DIR",
        help="show the results of an earlier run",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="re-run an earlier config.toml; command-line options override it",
    )
    files.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of this run, new or empty (default: runs/DATE-TIME-SUBJECT)",
    )
    add_feeding_arguments(parser)


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
