"""The command line: `airepair COMMAND ...`. Each command is a module of airepair.commands, imported when it is called.

Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import airepair
from airepair.errors import AirepairError, choose, one_line, printable

COMMANDS: dict[str, str] = {
    "repair": "repair a model file or a subject of the grid with one or several methods (the paper's command line)",
    "convert": "convert a model file between PyTorch, Keras, TensorFlow and ONNX",
    "data": "list, get or check the data sets",
    "train": "train a baseline",
    "table": "render Table I and the other reports again, from records alone",
    "compare": "compare records with a baseline's; exit code 1 on a regression",
    "list": "the methods, models, data sets and metrics that are registered",
    "bench": "run the benchmark suite (pytest) from an installed package",
    "env": "build the environment of an external tool",
    "carry": "cut files and folders into pieces, and put them together, digests checked",
    "tune": "search each method's options on validation, with the same trials and budget for all",
    "solve": "solve a last-layer repair program for a module and inputs, and print its optimum",
}


def available() -> dict[str, str]:
    """The commands whose module is there."""
    from importlib.util import find_spec

    return {name: about for name, about in COMMANDS.items() if find_spec(f"airepair.commands.{name}")}


def overview() -> str:
    """What `airepair --help` prints."""
    rows = "\n".join(f"  {name:<9}{about}" for name, about in available().items())
    head = f"AIREPAIR {airepair.__version__}: runs neural-network repair methods on the same model, fairly."
    return f"usage: airepair COMMAND [options]\n\n{head}\n\n{rows}\n\nairepair COMMAND --help says more."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code, 2 for bad input."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle OpenMP threads must sleep; read when torch loads
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # `--method mine:Mine` finds mine.py here, as with `python -m`; last, so that it shadows nothing
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(airepair.__version__)
        return 0
    try:
        name = choose("command", words[0], list(available()))
        command = importlib.import_module(f"airepair.commands.{name}")
        parser = argparse.ArgumentParser(
            f"airepair {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_arguments(parser)
        prepared = getattr(command, "words", list)(words[1:])  # what argparse would misread
        return int(command.run(parser.parse_args(prepared)))
    except AirepairError as error:
        print(f"airepair: {printable(str(error))}", file=sys.stderr)
    except OSError as error:
        print(f"airepair: {one_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("airepair: interrupted; what was finished is on disk", file=sys.stderr)
        return 130
    return 2
