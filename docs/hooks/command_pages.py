"""The pages of the command line: the commands of `airepair`, and the options of the benchmark."""

from __future__ import annotations

import argparse
from typing import Any

from airepair.cli.flags import GROUPS, flags_of
from airepair.cli.main import COMMANDS, parser_of
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
    """The options that the suite adds to pytest, in the groups of `pytest --help`."""
    groups: dict[str, list[Row]] = {}
    for flag in flags_of("bench"):
        title = GROUPS[flag.doors["bench"].group].removeprefix("AIREPAIR: ")
        about = flag.about("bench")
        value = about.get("metavar") or "|".join(map(str, about.get("choices") or ()))
        shown = f"`{flag.name} {value}`" if value else f"`{flag.name}`"
        groups.setdefault(title, []).append((shown, prose(str(about.get("help", "")).replace("%%", "%"))))
    parts = (f"## {capital(name)}\n\n{table(('option', 'meaning'), rows)}" for name, rows in groups.items())
    return f"""# Options of the benchmark

`pytest benchmarks` and `airepair bench` take these beside pytest's own. In an installed package, or
beside another plug-in that has an option of the same name, each is also `--airepair-NAME`.

{joined(parts)}
"""
