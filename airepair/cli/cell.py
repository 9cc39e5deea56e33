"""Runs one cell from its spec, as a task of an array job does (docs/slurm.md).

airepair cell specs/00007.json --out shards/7

A cell with a finished record in the folder is not run again, so a task may be started twice.
Exit code 0 if the record is finished (repaired, unsupported), 1 if not, 2 for a spec that cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from airepair.cli.flags import add_flags
from airepair.errors import UsageError
from airepair.host.arithmetic.setup import set_up
from airepair.runner.cell import CellSpec
from airepair.runner.device import check_device
from airepair.settings import wants_portable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares SPEC, --out, --device, --keep-models, --native."""
    parser.set_defaults(body="airepair.cli.commands.cell")
    parser.add_argument("spec", type=Path, help="a spec file that `airepair plan` wrote")
    add_flags(parser, "cell")


def prepare(args: argparse.Namespace) -> None:
    """Reads the spec (`args.cell`) and chooses its arithmetic, before the command's body loads torch."""
    args.cell = _read(args.spec, args.device)
    on_cpu = not args.cell.device.startswith("cuda")
    remark = set_up(
        portable=on_cpu and not args.native and wants_portable([args.cell.case.dataset], args.cell.profile)
    )
    if remark:
        print(f"airepair: {remark}", file=sys.stderr)


def _read(path: Path, device: str | None) -> CellSpec:
    try:
        spec = CellSpec.from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; accepted: a file of `airepair plan`"
        ) from error
    wanted = device or spec.device
    check_device(wanted)
    return replace(spec, device=wanted)
