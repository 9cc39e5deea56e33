"""The command line: `airepair COMMAND ...`. Each command is a page of airepair.cli, imported when it
is called: its help, its words and, where it loads little, what it does; else that is in
airepair.cli.commands.

Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

import airepair
from airepair.errors import AirepairError, UsageError, choose, one_line, printable
from airepair.host.arithmetic.setup import set_up

# Whose warnings are kept from the terminal.
FRAMEWORKS = (
    "absl",
    "h5py",
    "keras",
    "mmdnn",
    "onnx",
    "onnx2torch",
    "onnxruntime",
    "tensorflow",
    "torch",
    "torchvision",
)
COMMANDS: dict[str, str] = {
    "repair": "repair a model file or a subject of the grid with one or several methods (the paper's "
    "command line)",
    "convert": "convert a model file between PyTorch, Keras, TensorFlow and ONNX",
    "data": "list, get or check the data sets",
    "train": "train a baseline",
    "table": "render Table I and the other reports from records",
    "recommend": "recommend a method for a subject, with the reasons, from records",
    "compare": "compare records with a baseline's; the exit code says whether they are worse",
    "verify": "check records for contradictions and re-run a sample of their cells",
    "submit-check": "list what an entry for the leaderboard still lacks",
    "findings": "write the claims that records support, corrected and in both arithmetics",
    "list": "list the registered methods, models, data sets, metrics and faults",
    "bench": "run the benchmark suite (pytest) from an installed package",
    "watch": "show the progress of a benchmark run, from a second terminal",
    "plan": "write the spec of each selected cell as a file, for a cluster",
    "cell": "run one cell from its spec",
    "merge": "merge the records of several folders and check them against each other",
    "env": "build the environment of an external tool",
    "tune": "search each method's options on validation, with the same trials and budget for all",
    "solve": "solve a last-layer repair program for a module and inputs, and print its optimum",
}


def available() -> dict[str, str]:
    """Returns the commands whose module is there."""
    return {name: about for name, about in COMMANDS.items() if find_spec(module_of(name))}


def module_of(name: str) -> str:
    """Returns the module of a command: `submit-check` is airepair.cli.submit_check; `repair` is a
    room of its own.
    """
    return f"airepair.cli.{name.replace('-', '_')}" if name != "repair" else "airepair.cli.repair.arguments"


def overview() -> str:
    """What `airepair --help` prints."""
    rows = "\n".join(f"  {name:<13}{about}" for name, about in available().items())
    head = f"AIREPAIR {airepair.__version__}: runs neural-network repair methods on the same model, fairly."
    return (
        f"usage: airepair COMMAND [options]\n\n{head}\n\n{rows}\n\nairepair COMMAND --help lists its options."
    )


class Parser(argparse.ArgumentParser):
    """It is a parser whose errors are one line that names the nearest accepted word."""

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError with argparse's own message, and a hint if a word is close to one of ours."""
        raise UsageError(
            f"{self.prog.removeprefix('airepair ')}: {message}{self._hint(message)}; see {self.prog} --help"
        )

    def _hint(self, message: str) -> str:
        words = (
            [w.partition("=")[0] for w in message.split() if w.startswith("--")]
            if "unrecognized" in message
            else []
        )
        near = [n for w in words for n in get_close_matches(w, list(self._option_string_actions), n=1)]
        return f" (did you mean {near[0]}?)" if near else ""


def parser_of(name: str) -> Parser:
    """Returns the parser of a command."""
    command = importlib.import_module(module_of(name))
    parser = Parser(
        f"airepair {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code, 2 for bad input."""
    set_up(
        portable=False
    )  # a command that repairs or trains asks for portable arithmetic itself, once it knows its data set
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(
            os.getcwd()
        )  # `--method mine:Mine` finds mine.py here, as with `python -m`; last, so that it shadows nothing
    usable_streams()
    quiet_frameworks()
    if "_ARGCOMPLETE" in os.environ:
        complete()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except AirepairError as error:
        print(f"airepair: {printable(str(error))}", file=sys.stderr)
    except BrokenPipeError:  # `| head -1`: what was to be written is written, and nobody reads on
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        print(f"airepair: {one_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("airepair: interrupted; finished work is on disk", file=sys.stderr)
        return 130
    return 2


def _discard_output() -> None:
    """What could not be written is dropped, or Python tries again when it ends and prints an error
    of its own.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(airepair.__version__)
        return 0
    name = choose("command", words[0], list(available()))
    command = importlib.import_module(module_of(name))
    prepared = getattr(command, "words", list)(words[1:])  # what argparse would misread
    return performed(command, parser_of(name).parse_args(prepared))


def performed(command: ModuleType, args: argparse.Namespace) -> int:
    """Runs a command with its words read; its exit code.

    What loads slowly is in a module of its own, `args.body`, behind `prepare`.
    """
    getattr(command, "prepare", lambda _: None)(args)
    body = importlib.import_module(args.body) if hasattr(args, "body") else command
    return int(body.run(args))


def quiet_frameworks() -> None:
    """What the frameworks warn of their own affairs, with lines of their own code, is nothing for a
    terminal; `python -W` brings it back.
    """
    if not sys.warnoptions:
        for name in FRAMEWORKS:
            warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")


def usable_streams() -> None:
    """A closed stream becomes one that swallows; what a terminal's encoding lacks is replaced
    instead of ending the command.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for the rest of the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def complete() -> NoReturn:
    """Answers the shell's question for completions, and ends the process (argcomplete's protocol)."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    named = next((w for w in words[1:] if w in COMMANDS), None)
    parser = argparse.ArgumentParser("airepair")
    subparsers = parser.add_subparsers()
    for name in available():
        child = subparsers.add_parser(name)
        if name == named:
            importlib.import_module(module_of(name)).add_arguments(child)
    argcomplete.autocomplete(parser)
    raise SystemExit(0)
