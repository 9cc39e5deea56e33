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
from airepair.host.validation import Finite, checked, toml_file
from airepair.settings import Chosen

# Option of the command -> whether its value is (or may hold) a path, which is written absolute so
# that the file works from anywhere.
KEYS: dict[str, bool] = {
    "pretrained": True,
    "net_arch": True,
    "depth": False,
    "dataset": True,
    "method": False,
    "auto": False,
    "all": False,
    "models": True,
    "seeds": False,
    "profile": False,
    "device": False,
    "time_limit": False,
    "native": False,
    "pgd": False,
    "input_range": False,
    "mean": False,
    "std": False,
    "layout": False,
    "colours": False,
    "classes": True,
    "trained_on": False,
    "early": True,
    "weights": False,
    "trust_pickle": False,
    "trust_lambda": False,
    "failing": True,
    "keep": True,
}


def absolute(value: Any) -> Any:
    """A path, `npz:PATH`, `folder:PATH` or `file.py:Net` that is there, with its path absolute;
    everything else as it is.
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
    """The file.

    `cells`: method -> its options as they were used with where each came from; `facts` are comments
    at the top.
    """
    lines = [f"# AIREPAIR {airepair.__version__}: airepair repair --config THIS_FILE runs this again."]
    lines += [f"# {name}: {' '.join(value.split())}" for name, value in facts.items()]
    given = {key: (getattr(args, key, None), path) for key, path in KEYS.items()}
    values = {
        key: _value(absolute(value) if path else value)
        for key, (value, path) in given.items()
        if value not in (None, False, [])
    }
    values["options"] = {
        method: {k: _value(v) for k, v in chosen.options.items()} for method, chosen in cells.items()
    }
    values["origins"] = {method: dict(chosen.origins) for method, chosen in cells.items() if chosen.origins}
    return "\n".join(lines) + "\n" + tomli_w.dumps({k: v for k, v in values.items() if v != {}})


def _value(value: Any) -> Any:
    """A value that TOML has; None is the word that every option reads as none."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [_value(v) for v in value]
    return "none" if value is None else str(value)


KINDS: dict[str, Any] = {"depth": int, "time_limit": Finite, "method": list[str]}
KINDS |= dict.fromkeys(("auto", "all", "native", "pgd", "trust_pickle", "trust_lambda"), bool)
Config = msgspec.defstruct(
    "Config",
    [
        *((key, KINDS.get(key, str) | None, None) for key in KEYS),
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
        if getattr(args, key) in (None, False, []):
            setattr(args, key, Path(value) if key == "models" else value)
    return {method: Chosen(values, origins.get(method, {})) for method, values in options.items()}
