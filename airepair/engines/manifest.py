"""The manifest of an external tool: a folder with `tool.toml` says what it is, what it needs and how it is called. Free of torch."""

from __future__ import annotations

import os
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import airepair
from airepair.errors import UsageError, choose

PLACEHOLDERS = ("python", "folder", "job", "seed")
CATEGORIES = ("retraining", "direct weight modification", "architecture extension")
# Model formats that are converted for the tool and back -> the ending of the file in the job ("": a folder).
CONVERTED = {"keras": ".keras", "keras-h5": ".h5", "onnx": ".onnx", "frozen-pb": ".pb", "savedmodel": ""}
MODELS = ("torchscript", "layers", *CONVERTED)
RESULTS = ("state", *CONVERTED)


@dataclass(frozen=True)
class Manifest:
    """One tool.

    command       the words of its command line; {python} {folder} {job} {seed} and {OPTION} are filled in
    model         how it gets the model: "torchscript" (model.pt), "layers" (model.json and model.safetensors), or a format of CONVERTED
    result        what it leaves: "state" (result.safetensors, the repaired state_dict) or a whole model of such a format; see job.py
    requirements  what its environment holds; `python` its version; `manager` "uv" or "conda"
    inherit       whether packages of the calling environment (torch, say) are visible behind its own
    timeout       seconds; `memory_gb` of address space, None: no limit
    options       name -> {default, help, low, high, choices}
    """

    name: str
    paper: str
    command: tuple[str, ...]
    folder: Path
    about: str = ""
    category: str = "retraining"
    model: str = "torchscript"
    result: str = "state"
    requirements: tuple[str, ...] = ()
    python: str = "3.11"
    manager: str = "uv"
    inherit: bool = False
    timeout: float = 600.0
    memory_gb: float | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read(folder: Path) -> Manifest:
    """The manifest of a folder; UsageError says which entry of which file is wrong."""
    path = folder / "tool.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is no readable manifest (TOML): {error}") from error
    accepted = [f for f in Manifest.__dataclass_fields__ if f != "folder"]
    for key in raw:
        choose(f"entry of {path}", key, accepted)
    for key in ("name", "paper", "command"):
        if not raw.get(key):
            raise UsageError(f"{path} lacks {key!r}; needed: name, paper, command")
    for key, value in raw.items():
        _check_type(key, value, path)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    manifest = Manifest(folder=folder.resolve(), **values)
    _check(manifest, path)
    return manifest


WORDS = "a list of words in quotes"
TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("name", "paper", "about", "category", "model", "result", "manager"), (str, "text in quotes")),
    "python": (str, 'text in quotes, such as "3.11"'),
    **dict.fromkeys(("command", "requirements"), (list, WORDS)),
    "inherit": (bool, "true or false"),
    **dict.fromkeys(("timeout", "memory_gb"), ((int, float), "a number above 0")),
    "options": (dict, "tables [options.NAME]"),
}


def _check_type(key: str, value: Any, path: Path) -> None:
    """UsageError for an entry of another type than its meaning has."""
    kind, words = TYPES[key]
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if key in ("timeout", "memory_gb"):
        right = right and value > 0
    if kind is list:
        right = right and all(isinstance(word, str) for word in value)
    if kind is dict:
        right = right and all(isinstance(table, dict) for table in value.values())
    if not right:
        raise UsageError(f"{path}: {key} = {value!r}; accepted: {words}")


def _check(manifest: Manifest, path: Path) -> None:
    if not manifest.name.isidentifier():
        raise UsageError(f"{path}: name {manifest.name!r}; accepted: letters, digits and underscores")
    choose(f"category in {path}", manifest.category, CATEGORIES)
    choose(f"model in {path}", manifest.model, MODELS)
    choose(f"result in {path}", manifest.result, RESULTS)
    choose(f"manager in {path}", manifest.manager, ("uv", "conda"))
    for option in manifest.options:
        if not option.isidentifier() or option in PLACEHOLDERS:
            raise UsageError(f"{path}: option {option!r}; accepted: letters, digits and underscores, none of {', '.join(PLACEHOLDERS)}")
    for word in manifest.command:
        for name in _placeholders(word, path):
            choose(f"placeholder in {path}", name, [*PLACEHOLDERS, *manifest.options])


def _placeholders(word: str, path: Path) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
    except ValueError as error:
        raise UsageError(f"{path}: command word {word!r}: {error}; a brace itself is written {{{{ or }}}}") from error


def folders() -> list[Path]:
    """Where tools are looked for: the folders of AIREPAIR_TOOLS, and `examples` of a checkout."""
    given = [Path(p).expanduser() for p in os.environ.get("AIREPAIR_TOOLS", "").split(os.pathsep) if p]
    return [*given, Path(airepair.__file__).resolve().parents[1] / "examples"]


def installed() -> dict[str, Path]:
    """Name of each tool's folder -> the folder; the first of a name counts."""
    found: dict[str, Path] = {}
    for place in folders():
        for manifest in sorted(place.glob("*/tool.toml")) if place.is_dir() else ():
            found.setdefault(manifest.parent.name, manifest.parent)
    return found


def find(name: str) -> Manifest:
    """The tool of that name (its folder's), or of a folder that is given; UsageError lists what there is."""
    if os.sep in name:
        return read(Path(name))
    found = installed()
    return read(found[choose("external tool", name, list(found))])
