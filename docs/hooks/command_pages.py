"""The pages of the command line: the commands of `airepair`, and the options of the benchmark."""

from __future__ import annotations

import argparse
import importlib
import inspect
from dataclasses import dataclass, field
from typing import Any

from airepair.cli.main import COMMANDS, parser_of
from airepair.suite.plugin import MODULES
from docs.hooks.markdown import Row, capital, code, joined, prose, table


def commands_page() -> str:
    """Every command of `airepair` with its options."""
    parts = []
    for name, about in COMMANDS.items():
        actions = [a for a in parser_of(name)._actions if not isinstance(a, argparse._HelpAction)]
        parts.append(f"## `airepair {name}`\n\n{capital(prose(about))}.")
        if actions:
            parts.append(table(("option", "meaning", "default"), map(action_row, actions)))
    parts.append("`airepair bench` takes every option of pytest and the [benchmark's](benchmark-options.md).")
    return f"# Commands\n\n{joined(parts)}\n"


def action_row(action: argparse.Action) -> Row:
    """One option of argparse, as its help shows it."""
    metavar = action.metavar or (
        "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    )
    value = "" if action.nargs == 0 else " " + (metavar if isinstance(metavar, str) else " ".join(metavar))
    names = ", ".join(f"`{n}{value}`" for n in action.option_strings) or f"`{action.metavar or action.dest}`"
    return names, _help(action.help, vars(action)), _default(action.default)


def _help(text: str | None, values: dict[str, Any]) -> str:
    try:
        return prose((text or "") % values)
    except (TypeError, ValueError, KeyError):
        return prose(text or "")


def _default(value: Any) -> str:
    shown = value not in (None, False, True, [], (), argparse.SUPPRESS)
    return code(tuple(value) if isinstance(value, list) else value) if shown else ""


def benchmark_page() -> str:
    """The options that the suite adds to pytest."""
    parts = []
    for title, options in benchmark_options().items():
        rows = ((", ".join(f"`{n}`" for n in names), prose(text)) for names, text in options)
        parts.append(f"## {capital(title)}\n\n{table(('option', 'meaning'), rows)}")
    return f"""# Options of the benchmark

`pytest benchmarks` and `airepair bench` take these beside pytest's own. In an installed package, or
beside another plug-in that has an option of the same name, each is also `--airepair-NAME`.

{joined(parts)}
"""


@dataclass
class Declared:
    """Stands for pytest's parser, and writes down what the plug-ins declare: group -> options."""

    groups: dict[str, list[tuple[Row, dict[str, Any]]]] = field(default_factory=dict)
    title: str = "Others"

    def getgroup(self, name: str, description: str = "", **_: Any) -> Declared:
        """The group of that title; what is added to it is written down here."""
        return Declared(self.groups, (description or name).removeprefix("AIREPAIR: "))

    def addoption(self, *names: str, **about: Any) -> None:
        """One option."""
        self.groups.setdefault(self.title, []).append((names, about))

    def addini(self, *_: Any, **__: Any) -> None:
        """Settings of pytest.ini are none of the command line."""


def benchmark_options() -> dict[str, list[tuple[list[str], str]]]:
    """Title of a group -> the names and the help of each option, as the plug-ins declare them."""
    declared = Declared()
    for name in MODULES:
        add = getattr(importlib.import_module(name), "pytest_addoption", None)
        if add is not None and list(inspect.signature(add).parameters) == ["parser"]:
            add(declared)
    return {title: [benchmark_option(*o) for o in options] for title, options in declared.groups.items()}


def benchmark_option(names: Row, about: dict[str, Any]) -> tuple[list[str], str]:
    """The names of an option with its value, but the long one that every option has, and its help."""
    short = [n for n in names if not n.startswith("--airepair-")] or list(names)
    value = about.get("metavar") or "|".join(map(str, about.get("choices", ())))
    return [f"{n} {value}" if value else n for n in short], str(about.get("help", "")).replace("%%", "%")
