"""From the parsed words of `airepair repair` to what is to be done: which methods, on which models, where.

UsageError for what cannot be meant.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from airepair import settings
from airepair.case import seeds_of
from airepair.cli.repair.method_options import given_options
from airepair.cli.repair.run import Wish
from airepair.cli.repair.targets import Target, dataset_in, every_model, grid_model
from airepair.data import DATASETS, registered_name
from airepair.engines.command import Cells
from airepair.engines.isolation import limits_of
from airepair.errors import UsageError, choose
from airepair.methods import METHODS
from airepair.paths import cache
from airepair.runner.device import device_of
from airepair.runner.specify import Shared
from airepair.runner.variants import check
from airepair.settings import Chosen
from airepair.subjects.user_model.input_spec import ModelSource, brought_from, case_name


def methods_of(args: argparse.Namespace) -> tuple[str, ...]:
    """Returns the methods of the run, each once. UsageError for unknown ones and if none is given."""
    named = [w for text in args.method or [] for w in text.split(",") if w]
    if args.testonly:
        return ()
    if not named and not args.all:
        raise UsageError(
            f"--method is missing; accepted: {', '.join(METHODS.names())}, several with spaces, or --all"
        )
    for name in named:
        check(name)
    return tuple(dict.fromkeys(named or every_method()))


def every_method() -> list[str]:
    """What `--all` runs: each method that can be imported; the others are reported."""
    broken = METHODS.broken()
    for reason in broken.values():
        print(f"airepair: left out: {reason}", file=sys.stderr)
    return [name for name in METHODS.names() if name not in broken]


def shared_of(args: argparse.Namespace) -> Shared:
    """What all cells of the run have in common; the data set's name in `args` becomes the registered one."""
    if args.dataset is None and args.pretrained and not Path(args.pretrained).expanduser().exists():
        raise UsageError(
            f"--pretrained {args.pretrained}: there is no such file; accepted: a model file (docs/formats.md)"
        )
    if args.dataset is None and args.pretrained:
        args.dataset = dataset_in(Path(args.pretrained).expanduser())
    if args.dataset is not None:
        args.dataset = registered_name(args.dataset)
    device = device_of(args.device or "auto")
    if args.profile not in (None, "none"):
        settings.profile(args.profile)
    if args.time_limit is not None and not 0 < args.time_limit < float("inf"):
        raise UsageError(f"--time-limit {args.time_limit:g} is out of range; accepted: seconds above 0")
    return Shared(
        device=str(device),
        profile=args.profile,
        seconds=args.time_limit,
        pgd=args.pgd,
        repair=not args.testonly,
        failing=args.failing,
        keep=args.keep,
        models=not args.testonly,
    )


def targets_of(args: argparse.Namespace) -> list[Target]:
    """Returns the models of the run."""
    if args.dataset and not args.dataset.startswith(("npz:", "folder:")):
        choose("data set", args.dataset.partition("+")[0], DATASETS.names())
    if args.models and not args.all:
        raise UsageError(f"--models {args.models} is for --all; accepted: --pretrained FILE for one model")
    if _looks_for_models(args):
        asked = brought_from(args, Path()) if args.models else ModelSource(Path())
        return every_model(args.models, args.dataset, asked, cache())
    if args.dataset is None:
        raise UsageError(
            f"--dataset is missing; accepted: {', '.join(DATASETS.names())}, npz:PATH, folder:PATH"
        )
    if args.pretrained:
        brought = brought_from(args)
        return [Target(args.dataset, case_name(brought.path), brought)]
    if args.net_arch is None:
        raise UsageError(
            "--net_arch is missing; accepted: a name of `airepair list models`, or --pretrained FILE"
        )
    if args.profile == "none":
        raise UsageError("--profile none is for --pretrained; accepted: paper, for the whole data set")
    return [Target(args.dataset, grid_model(args.net_arch, args.depth))]


def cells_of(args: argparse.Namespace) -> Cells:
    """Returns where the cells run, and with which limits."""
    limits = limits_of(args.isolate_memory, args.isolate_gpu_memory, args.isolate_output)
    return Cells(cache(), args.isolate, limits)


def wish_of(
    args: argparse.Namespace, methods: tuple[str, ...], shared: Shared, fixed: dict[str, Chosen]
) -> Wish:
    """How each model is repaired."""
    return Wish(
        methods=methods,
        seeds=seeds_of(args.seeds or "0"),
        shared=shared,
        options=given_options(methods, args.additional_param or [], args.assignments or []),
        fixed={} if args.all else fixed,
        auto=args.auto,
        lenient=_looks_for_models(args),
    )


def _looks_for_models(args: argparse.Namespace) -> bool:
    """Whether `--all` is for every model that there is; with one named it is for every method alone."""
    return bool(args.all and not args.pretrained and not (args.dataset and args.net_arch))
