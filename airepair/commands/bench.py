"""Runs the benchmark suite, from an installed package as from a checkout: `airepair bench [pytest options]`.

The options are those of `pytest benchmarks`: -k, -n 2, --dataset, --model, --method, --seeds, --profile, --set, --out, --collect-only and the rest.
Results go to reports/out under the working directory, or to --out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import airepair
from airepair.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything goes to pytest."""
    parser.prefix_chars = "\0"  # no word is an option of ours: argparse would refuse a list that begins with one of pytest's
    parser.add_argument("options", nargs="*", metavar="PYTEST OPTION", help="passed to pytest as they stand")


def run(args: argparse.Namespace) -> int:
    """pytest's exit code."""
    if args.options in (["-h"], ["--help"]):
        print(f"usage: airepair bench [pytest options]\n\n{__doc__}")
        return 0
    root = Path(airepair.__file__).resolve().parents[1]
    words, folder = command(root)
    given = args.options if _is_checkout(root) else [long_form(word, short_options()) for word in args.options]
    return subprocess.call([*words, *given], cwd=folder, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


def _is_checkout(root: Path) -> bool:
    return (root / "benchmarks" / "grid.py").exists() and (root / "conftest.py").exists()


def long_form(word: str, short: Sequence[str]) -> str:
    """`--seeds=0` as the installed plugin has it, `--airepair-seeds=0`; pytest's own words as they stand."""
    name, equals, value = word.partition("=")
    return f"--airepair-{name.removeprefix('--')}{equals}{value}" if name in short else word


def short_options() -> tuple[str, ...]:
    """The short forms of the installed plugin's options, asked of the plugins themselves."""
    from airepair.suite.plugin import pytest_plugins

    class Noting:
        def __init__(self) -> None:
            self.names: list[str] = []

        def getgroup(self, *_: str) -> Noting:
            return self

        def addoption(self, *names: str, **_: Any) -> None:
            self.names += [f"--{name.removeprefix('--airepair-')}" for name in names]

    noting = Noting()
    for module in (import_module(name) for name in pytest_plugins):
        getattr(module, "pytest_addoption", lambda _: None)(noting)
    return tuple(noting.names)


def command(root: Path) -> tuple[list[str], Path]:
    """The pytest command and where it runs: the checkout at `root` if it is one, else the installed suite in the working directory.

    UsageError if this installation carries no suite.
    """
    pytest = [sys.executable, "-m", "pytest"]
    if _is_checkout(root):
        return [*pytest, "benchmarks"], root
    if find_spec("airepair.suite.benchmarks") is None:
        raise UsageError(f"no benchmark suite in {root}; accepted: a checkout, or a wheel that carries airepair.suite.benchmarks")
    here = Path.cwd()
    # Neither the configuration nor a conftest of the working directory's own project applies: they are about something else.
    own = ["-c", os.devnull, "--noconftest", "--rootdir", str(here), "-ra", "-p", "no:cacheprovider", "--benchmark-disable-gc"]
    return [*pytest, *own, "-p", "airepair.suite.plugin", "--pyargs", "airepair.suite.benchmarks"], here
