"""The reviewed table of settings: which options a method gets where, and where each setting came from. Free of torch.

`settings.toml` holds the profiles (how much is run) and the settings; `tuned.toml`, written by `airepair tune`, is read after it by `--auto`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

from airepair.errors import UsageError, choose


@dataclass(frozen=True)
class Profile:
    """How much is run: `seeds` by default, the data sets it selects, and per data set how many images of each split and epochs a subject gets."""

    name: str
    about: str
    seeds: tuple[int, ...]
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    minutes: str = "unknown"


@dataclass(frozen=True)
class Chosen:
    """The options of one cell with, for each, where it came from."""

    options: Mapping[str, Any]
    origins: Mapping[str, str]


def _table(path: Path | None) -> dict[str, Any]:
    source = files("airepair").joinpath("settings.toml") if path is None else path
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} is not a readable settings table (TOML): {error}") from error


def profiles() -> dict[str, Profile]:
    """The named profiles of the grid."""
    found = {}
    for name, raw in _table(None)["profile"].items():
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        found[name] = Profile(name=name, **values)
    return found


def profile(name: str) -> Profile:
    """The profile of that name; UsageError that lists them otherwise."""
    found = profiles()
    return found[choose("profile", name, list(found))]


def choose_options(
    dataset: str, model: str, method: str, profile_name: str, given: Mapping[str, Any], tables: Sequence[Path | None] = (None,)
) -> Chosen:
    """The options of a cell: every matching setting in order (later ones win), then what the user gave."""
    options: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in tables:
        for row in _table(path).get("setting", []):
            wanted = {"dataset": dataset, "model": model, "method": method, "profile": profile_name}
            if all(fnmatchcase(value, row.get(key, "*")) for key, value in wanted.items()):
                options |= row["options"]
                origins |= dict.fromkeys(row["options"], row["origin"])
    return Chosen(options | dict(given), origins | dict.fromkeys(given, "given"))
