"""Lists the data sets and their folders, fetches official ones, and checks their files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from airepair import data, paths
from airepair.data import DATASETS, registered_name
from airepair.data import catalogue as official
from airepair.data.catalogue import OFFICIAL
from airepair.data.official_files import partial as lacking
from airepair.data.official_files import place
from airepair.errors import AirepairError, Unavailable, UsageError, choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which sets."""
    parser.add_argument(
        "what",
        choices=("list", "get", "check"),
        help="list: show all; get: fetch missing files; check: read and compare with the official digests",
    )
    parser.add_argument(
        "names", nargs="*", help="data sets (get needs at least one; default for check: all that are present)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when all is well; 1 when a set could not be fetched, or is damaged, partial, altered, or
    named and absent.
    """
    given = [registered_name(name) for name in args.names]
    for name in given:
        if not name.startswith(("npz:", "folder:")):
            choose("data set", name, DATASETS.names())
    if args.what == "get" and not args.names:
        raise UsageError(f"airepair data get needs a name; accepted: {', '.join(DATASETS.names())}")
    names = given or DATASETS.names()
    if args.what == "list":
        print(f"data folder: {paths.data()} (AIREPAIR_DATA names another)")
    lines: dict[str, Callable[[str, Path], bool]] = {
        "list": _listed,
        "get": _got,
        "check": partial(_checked, named=bool(given)),
    }
    good = [lines[args.what](name, paths.data()) for name in names]
    return 0 if all(good) else 1


def _listed(name: str, root: Path) -> bool:
    if name not in official.OFFICIAL:
        print(f"{name:<15} comes with a package")
        return True
    print(f"{name:<15} {_place(name, root) or f'not found (airepair data get {name})'}")
    return True


def _place(name: str, root: Path) -> str:
    """Where the set lies, without reading its images ("" if it is not found)."""
    found = place(name, root)
    return str(found) if found else ""


def _got(name: str, root: Path) -> bool:
    moving, last = sys.stderr.isatty(), {"at": float("-inf")}

    def show(file: str, done: int, total: int) -> None:
        """A line that moves on a terminal, one every ten seconds elsewhere."""
        if not moving and time.monotonic() - last["at"] < 10:
            return
        last["at"] = time.monotonic()
        text = f"{file}  {done / 1e6:,.1f}" + (f" of {total / 1e6:,.1f}" if total else "") + " MB"
        print(f"\r\033[K{text}" if moving else text, end="" if moving else "\n", file=sys.stderr, flush=True)

    try:
        where = data.get(name, show)
    except AirepairError as error:
        print(("\n" if moving else "") + f"airepair: {error}", file=sys.stderr)
        return False
    if moving:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(f"{name}: {where}")
    return True


def _checked(name: str, root: Path, *, named: bool) -> bool:
    """Whether a set is whole and official; one that is absent is no fault if nobody named it."""
    try:
        found = data.load(name)
    except Unavailable as error:
        if not named and not lacking(name, root):
            print(f"{name}: not found")
            return True
        print(f"airepair: {error}", file=sys.stderr)
        return False
    except AirepairError as error:
        print(f"airepair: {error}", file=sys.stderr)
        return False
    sizes = ", ".join(
        f"{part} {len(getattr(found, part)):,}" for part in ("train", "repair", "validation", "test")
    )
    official = name in OFFICIAL
    remark = "; ".join(found.notes) or ("official, every image and label" if official else "as it comes")
    print(
        f"{found.name}: {remark}; {len(found.classes)} classes, {'x'.join(map(str, found.shape))}; "
        f"{sizes}; test {found.digests['test'][:16]}"
    )
    return not (official and found.notes)
