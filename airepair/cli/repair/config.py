"""config.toml of a run: the words of its command line and every option of every method, so that
`airepair repair --config FILE` repeats it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

import airepair
from airepair.cli.flags import Flag, flags_of
from airepair.host.validation import Finite, checked, toml_file
from airepair.settings import Chosen

# Options that the file keeps; those that may hold a path are written absolute, so that the file works
# from anywhere.
KEPT = {flag.key: flag for flag in flags_of("repair") if flag.config}


def absolute(value: Any) -> Any:
    """Returns a path, `npz:PATH`, `folder:PATH` or `file.py:Net` that is there, with its path
    absolute; everything else as it is.
    """
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if not isinstance(value, str):
        return value
    before, colon, after = value.partition(":")
    if before in ("npz", "folder"):
        return f"{before}:{Path(after).expanduser().absolute()}"
    place, colon, name = value.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{Path(place).expanduser().absolute()}:{name}"
    return str(Path(value).expanduser().absolute()) if Path(value).expanduser().is_file() else value


def text_of(args: argparse.Namespace, cells: Mapping[str, Chosen], facts: Mapping[str, str]) -> str:
    """Returns the text of the file.

    `cells`: method -> its options as they were used with where each came from; `facts` are comments
    at the top.
    """
    lines = [f"# AIREPAIR {airepair.__version__}: airepair repair --config THIS_FILE runs this again."]
    lines += [f"# {name}: {' '.join(value.split())}" for name, value in facts.items()]
    given = {key: getattr(args, key, None) for key in KEPT}
    values = {
        key: _value(absolute(value) if KEPT[key].config == "path" else value)
        for key, value in given.items()
        if _says(key, value)
    }
    values["options"] = {
        method: {k: _value(v) for k, v in chosen.options.items()} for method, chosen in cells.items()
    }
    values["origins"] = {method: dict(chosen.origins) for method, chosen in cells.items() if chosen.origins}
    return "\n".join(lines) + "\n" + tomli_w.dumps({k: v for k, v in values.items() if v != {}})


def _says(key: str, value: Any) -> bool:
    """Whether the command line says something: `--no-isolate` does, a flag that is not there does not."""
    return value not in (None, []) and (value is not False or KEPT[key].action is not None)


def _value(value: Any) -> Any:
    """A value that TOML has; None is the word that every option reads as none."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [_value(v) for v in value]
    return "none" if value is None else str(value)


def _kind(flag: Flag) -> Any:
    """The type of an option's value in the file."""
    return list[str] if flag.several else {int: int, float: Finite, bool: bool}.get(flag.kind, str)


Config = msgspec.defstruct(
    "Config",
    [
        *((key, _kind(flag) | None, None) for key, flag in KEPT.items()),
        ("options", dict[str, dict[str, Any]], {}),
        ("origins", dict[str, dict[str, str]], {}),
    ],
    forbid_unknown_fields=True,
)


def apply(args: argparse.Namespace, path: Path) -> dict[str, Chosen]:
    """Puts the file's values where the command line gave none; method -> its options.

    UsageError for a file that cannot be meant.
    """
    found = toml_file(path, "config.toml of an earlier run")
    checked(found, Config, str(path))
    options, origins = found.pop("options", {}), found.pop("origins", {})
    for key, value in found.items():
        if not _says(key, getattr(args, key)):
            setattr(args, key, Path(value) if key == "models" else value)
    return {method: Chosen(values, origins.get(method, {})) for method, values in options.items()}
