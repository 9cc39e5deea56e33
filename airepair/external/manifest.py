"""The manifest of an external tool: a folder with `tool.toml` says what it is, what it needs and
how it is called. Free of torch.
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import airepair
from airepair.case import SOURCES
from airepair.errors import UsageError, choose
from airepair.host.validation import OURS, Positive, Word, problems, toml_file

PLACEHOLDERS = ("python", "folder", "job", "seed")
CATEGORIES = ("retraining", "direct weight modification", "architecture extension")
# Model formats that are converted for the tool and back -> the ending of the file in the job ("": a folder).
CONVERTED = {"keras": ".keras", "keras-h5": ".h5", "onnx": ".onnx", "frozen-pb": ".pb", "savedmodel": ""}
MODELS = ("torchscript", "layers", *CONVERTED)
RESULTS = ("state", *CONVERTED)


@dataclass(frozen=True)
class Manifest:
    """It describes one tool.

    command       the words of its command line; {python} {folder} {job} {seed} and {OPTION} are
                  filled in
    model         how it gets the model: "torchscript" (model.pt), "layers" (model.json and
                  model.safetensors), or a format of CONVERTED
    result        what it leaves: "state" (result.safetensors, the repaired state_dict) or a whole
                  model of such a format; see exchange.py
    requirements  what its environment holds; `python` its version; `manager` "uv" or "conda"
    inherit       whether packages of the calling environment (torch, say) are visible behind its
                  own
    timeout       seconds; `memory_gb` of address space, None: no limit
    options       name -> {default, help, low, high, choices}
    sources       what it learns from (docs/adding-a-method.md); the rest of its job is empty
    passes        numbers and names of options whose product are its passes over train and failing,
                  at most; none: it trains nothing
    ablations     name -> options in which only its idea is off
    """

    name: Word
    paper: Word
    command: tuple[str, ...]
    folder: Path = field(metadata={OURS: True})
    about: str = ""
    category: str = "retraining"
    model: str = "torchscript"
    result: str = "state"
    requirements: tuple[str, ...] = ()
    python: str = "3.11"
    manager: str = "uv"
    inherit: bool = False
    timeout: Positive = 600.0
    memory_gb: Positive | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sources: tuple[str, ...] = ("train", "failing")
    passes: tuple[int | str, ...] = ()
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read(folder: Path) -> Manifest:
    """Returns the manifest of a folder; UsageError says which entry of which file is wrong."""
    path = folder / "tool.toml"
    raw = toml_file(path, "the manifest of a tool")
    found = next(problems(raw, Manifest), None)
    if found is not None:
        raise UsageError(f"{path}: {found}")
    if not raw["command"]:
        raise UsageError(f"{path}: command is []; accepted: the words of a command line")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    manifest = Manifest(folder=folder.resolve(), **values)
    _check(manifest, path)
    return manifest


def _check(manifest: Manifest, path: Path) -> None:
    if not manifest.name.isidentifier():
        raise UsageError(f"{path}: name {manifest.name!r}; accepted: letters, digits and underscores")
    choose(f"category in {path}", manifest.category, CATEGORIES)
    choose(f"model in {path}", manifest.model, MODELS)
    choose(f"result in {path}", manifest.result, RESULTS)
    choose(f"manager in {path}", manifest.manager, ("uv", "conda"))
    for source in manifest.sources:
        choose(f"source in {path}", source, SOURCES)
    for factor in (f for f in manifest.passes if isinstance(f, str)):
        choose(f"factor of passes in {path}", factor, list(manifest.options))
    for option in manifest.options:
        if not option.isidentifier() or option in PLACEHOLDERS:
            raise UsageError(
                f"{path}: option {option!r}; accepted: letters, digits and underscores, "
                f"none of {', '.join(PLACEHOLDERS)}"
            )
    for word in manifest.command:
        for name in _placeholders(word, path):
            choose(f"placeholder in {path}", name, [*PLACEHOLDERS, *manifest.options])


def _placeholders(word: str, path: Path) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
    except ValueError as error:
        raise UsageError(
            f"{path}: command word {word!r}: {error}; a brace itself is written {{{{ or }}}}"
        ) from error


def folders() -> list[Path]:
    """Where tools are looked for: the folders of AIREPAIR_TOOLS, and `examples` of a checkout."""
    given = [Path(p).expanduser() for p in os.environ.get("AIREPAIR_TOOLS", "").split(os.pathsep) if p]
    return [*given, Path(airepair.__file__).resolve().parents[1] / "examples"]


def installed() -> dict[str, Path]:
    """Maps the name of each tool's folder to the folder; the first of a name counts."""
    found: dict[str, Path] = {}
    for place in folders():
        for manifest in sorted(place.glob("*/tool.toml")) if place.is_dir() else ():
            found.setdefault(manifest.parent.name, manifest.parent)
    return found


def find(name: str) -> Manifest:
    """Returns the tool of that name (its folder's), or of a folder that is given; UsageError lists
    what there is.
    """
    if os.sep in name:
        return read(Path(name))
    found = installed()
    return read(found[choose("external tool", name, list(found))])
