"""The reviewed table of settings: which options a method gets where, and where each setting came from.
Free of torch.

`settings.toml` holds the profiles (how much is run) and the settings; `tuned.toml`, written by
`airepair tune --install`, is read after it by `--auto`. A combination (`apricot+dl2`) gets the
settings of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from airepair.errors import choose
from airepair.host.validation import Count, NotNegative, Word, checked, toml_file

# The profiles whose cells have the same bits on every x86-64 processor
# (airepair/host/arithmetic/setup.py), if nobody asks for --native.
PORTABLE = ("smoke", "digits")


@dataclass(frozen=True)
class Profile:
    """How much is run: `seeds` by default, the data sets it selects; per data set how many images of
    each split, and what of the recipe is another.

    `for_gpu`: patterns of models that run on a CPU only when they are asked for by name. `seconds`:
    per data set, of a cell on one free core; `times`: how many of these a method's cell takes (one
    without an entry). `pgd`: models are attacked as well, since that costs little here. `faults`:
    subjects with a fault, an environment or none at all (`+`) belong to it; `tuned`: tuned options
    have a row beside the default ones.
    """

    name: str
    about: str
    seeds: tuple[Count, ...]
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, Count]] = field(default_factory=dict)
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    for_gpu: tuple[str, ...] = ()
    seconds: Mapping[str, NotNegative] = field(default_factory=dict)
    times: Mapping[str, NotNegative] = field(default_factory=dict)
    pgd: bool = False
    faults: bool = True
    tuned: bool = False


@dataclass(frozen=True)
class Chosen:
    """Holds the options of one cell with, for each, where it came from."""

    options: Mapping[str, Any]
    origins: Mapping[str, str]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds a setting: options, where they come from, and patterns that say which cells get them."""

    origin: Word
    options: dict[str, Any]
    dataset: str = "*"
    model: str = "*"
    method: str = "*"
    profile: str = "*"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds a file of settings."""

    profile: dict[str, dict[str, Any]] = {}
    setting: list[Row] = []


def read_table(path: Path | None) -> dict[str, Any]:
    """Returns the file's tables as they stand, types checked; None is settings.toml. UsageError
    names file, field and value.
    """
    source = Path(str(files("airepair").joinpath("settings.toml"))) if path is None else path
    try:
        state = source.stat()
        found = _read(source, (state.st_mtime_ns, state.st_size))
    except OSError:
        found = _read(source, (0, 0))  # it says why the file cannot be read
    return dict(found)


@lru_cache(maxsize=8)
def _read(source: Path, state: tuple[int, int]) -> dict[str, Any]:
    """The content of a file in that state (time of change, size): every cell asks for it, several times."""
    raw = toml_file(source, "a table of settings")
    checked(raw, Table, str(source))
    return raw


def tuned_table() -> Path:
    """Where the packaged table of tuned settings lies, whether it is there or not."""
    return Path(str(files("airepair").joinpath("tuned.toml")))


def tables(auto: bool) -> tuple[Path | None, ...]:
    """Returns the tables that settings are read from: settings.toml, and with `auto` the tuned one
    after it, if there is one.
    """
    return (None, tuned_table()) if auto and tuned_table().exists() else (None,)


def is_tuned(dataset: str, model: str, method: str, profile_name: str) -> bool:
    """Whether the tuned table has a row for this cell."""
    return bool(tables(True)[1:]) and bool(
        choose_options(dataset, model, method, profile_name, {}, tables(True)[1:]).origins
    )


def profiles() -> dict[str, Profile]:
    """Returns the named profiles of the grid."""
    return dict(_profiles(msgspec.json.encode(read_table(None)["profile"])))


@lru_cache(maxsize=2)
def _profiles(content: bytes) -> Mapping[str, Profile]:
    rows: dict[str, dict[str, Any]] = msgspec.json.decode(content)
    return {name: checked({"name": name, **raw}, Profile, f"profile {name}") for name, raw in rows.items()}


def profile(name: str) -> Profile:
    """Returns the profile of that name; UsageError that lists them otherwise."""
    found = profiles()
    return found[choose("profile", name, list(found))]


def usual_profile(dataset: str, *, cuda: bool) -> str:
    """Returns the profile of a data set's cells if none is named: `smoke` for digits, `paper` on
    CUDA, `cpu` elsewhere.
    """
    return "smoke" if dataset.partition("+")[0] == "digits" else "paper" if cuda else "cpu"


def wants_portable(datasets: Sequence[str], named: str | None) -> bool:
    """Whether all cells are to compute portably: the named profile is one of digits, or none is
    named and every data set is digits.
    """
    return (
        named in PORTABLE
        if named
        else bool(datasets) and all(d.partition("+")[0].lower() == "digits" for d in datasets)
    )


def choose_options(
    dataset: str,
    model: str,
    method: str,
    profile_name: str,
    given: Mapping[str, Any],
    tables: Sequence[Path | None] = (None,),
) -> Chosen:
    """Returns the options of a cell: every matching setting in order (later ones win), then what
    the user gave.

    A combination's rows come after those of its steps, whose options it has as `<step>_<option>`.
    """
    options: dict[str, Any] = {}
    origins: dict[str, str] = {}
    names = (
        [(method, "")]
        if "+" not in method
        else [*((step, f"{step}_") for step in method.split("+")), (method, "")]
    )
    for path in tables:
        rows = read_table(path).get("setting", [])
        for name, prefix in names:
            wanted = {"dataset": dataset, "model": model, "method": name, "profile": profile_name}
            for row in rows:
                if all(fnmatchcase(value, row.get(key, "*")) for key, value in wanted.items()):
                    found = {prefix + key: value for key, value in row["options"].items()}
                    options |= found
                    origins |= dict.fromkeys(found, row["origin"])
    return Chosen(options | dict(given), origins | dict.fromkeys(given, "given"))
