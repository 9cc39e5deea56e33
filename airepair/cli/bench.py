"""Runs the benchmark suite, from an installed package or a checkout: `airepair bench [pytest options]`.

It takes pytest's options (-k, -m, -n 2, -q, -v, --collect-only and the rest) and those below.
Methods of your own (`mine:Mine`) and model files are looked for in the working directory; results
go to reports/out there, or to --out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import airepair
from airepair.cli.flags import GROUPS, flags_of
from airepair.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything goes to pytest."""
    parser.prefix_chars = (
        "\0"  # no word is an option of ours: argparse would refuse a list that begins with one of pytest's
    )
    parser.add_argument("options", nargs="*", metavar="PYTEST OPTION", help="passed to pytest unchanged")


def run(args: argparse.Namespace) -> int:
    """Returns pytest's exit code."""
    if args.options in (["-h"], ["--help"]):
        print(f"usage: airepair bench [pytest options]\n\n{__doc__}\n{options_help()}")
        return 0
    return suite(args.options)


def suite(words: Sequence[str]) -> int:
    """Runs the suite with these options; pytest's exit code."""
    root = Path(airepair.__file__).resolve().parents[1]
    given = list(words) if _is_checkout(root) else [long_form(word, short_options()) for word in words]
    with subprocess.Popen([*command(root), *given], env=surroundings(root)) as process:
        while True:
            with suppress(
                KeyboardInterrupt
            ):  # a terminal sends it to the suite as well, which then writes its tables and ends
                return process.wait()


def surroundings(root: Path) -> dict[str, str]:
    """Returns the environment of the suite: a checkout's packages are found from any folder."""
    found = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    if _is_checkout(root):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    return found


def options_help(width: int = 100) -> str:
    """Returns the suite's own options in their groups."""
    lines = []
    for name, heading in GROUPS.items():
        lines.append(f"\n{heading}")
        for flag in flags_of("bench"):
            if flag.doors["bench"].group == name:
                about = flag.about("bench")
                bare = "action" in about and about["action"] != "append"
                lines.append(f"  {flag.name}" + ("" if bare else f" {about.get('metavar') or 'VALUE'}"))
                text = about["help"] % {"default": about.get("default")}
                lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _is_checkout(root: Path) -> bool:
    return (root / "benchmarks" / "grid.py").exists() and (root / "conftest.py").exists()


def long_form(word: str, short: Sequence[str]) -> str:
    """Returns `--seeds=0` as the installed plugin has it, `--airepair-seeds=0`, and
    `--no-ablations` as `--no-airepair-ablations`; pytest's own words as they stand.
    """
    name, equals, value = word.partition("=")
    if name.startswith("--no-") and f"--{name[5:]}" in short:
        return f"--no-airepair-{name[5:]}"
    return f"--airepair-{name.removeprefix('--')}{equals}{value}" if name in short else word


def short_options() -> tuple[str, ...]:
    """Returns the short forms of the installed plugin's options."""
    return tuple(flag.name for flag in flags_of("bench"))


def command(root: Path) -> list[str]:
    """Returns the pytest command, for the working directory: the suite of the checkout at `root` if
    it is one, else the installed one.

    UsageError if this installation carries no suite.
    """
    pytest = [sys.executable, "-m", "pytest"]
    if _is_checkout(root):
        return [*pytest, str(root / "benchmarks"), "-c", str(root / "pyproject.toml"), "--rootdir", str(root)]
    if find_spec("airepair.suite.benchmarks") is None:
        raise UsageError(
            f"no benchmark suite in {root}; accepted: a checkout, or a wheel that carries "
            f"airepair.suite.benchmarks"
        )
    # Neither the configuration nor a conftest of the working directory's own project applies: they
    # are about something else.
    own = [
        "-c",
        os.devnull,
        "--noconftest",
        "--rootdir",
        str(Path.cwd()),
        "-ra",
        "-p",
        "no:cacheprovider",
        "--benchmark-disable-gc",
    ]
    return [*pytest, *own, "-p", "airepair.suite.plugin", "--pyargs", "airepair.suite.benchmarks"]
