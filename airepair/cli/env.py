"""Manages the environments of external tools: lists them, builds or removes one, or writes
the versions that it resolved to (lock).

A tool is a folder with a tool.toml; they are looked for in the folders of AIREPAIR_TOOLS and in
`examples` of a checkout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys

from airepair.errors import UsageError
from airepair.external import environment
from airepair.external.manifest import find, folders, installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the action and the tool."""
    parser.add_argument(
        "action",
        choices=["list", "create", "lock", "remove"],
        help="lock: write the resolved versions to requirements.lock",
    )
    parser.add_argument("name", nargs="?", help="the tool's name, or its folder")


def run(args: argparse.Namespace) -> int:
    """Does it and says where the environment is."""
    if args.action == "list":
        names = installed()
        if not names:
            print(
                f"no tool.toml found in {', '.join(f'{place}/*' for place in folders())}; "
                f"AIREPAIR_TOOLS names other folders"
            )
        for name in names:
            try:
                manifest = find(name)
            except UsageError as error:  # the others are there all the same
                print(f"airepair: {error}", file=sys.stderr)
                continue
            state = "ready" if environment.of(manifest).ready else f"missing: airepair env create {name}"
            print(f"{name:<24}{manifest.category:<28}{state}")
        return 0
    manifest = find(args.name or "")
    if args.action == "remove":
        found = environment.of(manifest)
        shutil.rmtree(found.folder, ignore_errors=True)
        print(f"removed {found.folder}")
        return 0
    made = environment.create(manifest)
    print(f"{manifest.name}: {made.folder}; use it with --method tool:{manifest.folder.name}")
    if args.action == "lock":
        resolved = json.loads((made.folder / environment.DONE).read_text(encoding="utf-8"))["resolved"]
        (manifest.folder / environment.LOCK).write_text("\n".join(resolved) + "\n", encoding="utf-8")
        print(f"wrote {manifest.folder / environment.LOCK}")
    return 0
