"""The digest of a method's source: its module, and what that imports of its own package, but for what every method sees.

A method's number may change with any line that it runs; HARNESS is what no number depends on. Free of torch: files are parsed, not
imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# What every method may import, and what holds names, types and messages only.
HARNESS = ("airepair", "airepair.errors", "airepair.options", "airepair.paths", "airepair.types")


def source_digest(method: object) -> str:
    """SHA-256 over the source of the method, of the methods that it runs (`methods()`), and over the files of an external tool.

    Line ends do not count. A module whose source cannot be found counts by its name.
    """
    sha = hashlib.sha256()
    for name in _modules(method):
        sha.update(f"{name}:{_content(_file(name))};".encode())
    folder: Path | None = getattr(getattr(method, "manifest", None), "folder", None)
    if folder is not None:
        for file in sorted(f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts):
            sha.update(f"{file.relative_to(folder)}:{_content(file)};".encode())
    for inner in getattr(method, "methods", list)():
        sha.update(source_digest(inner).encode())
    return sha.hexdigest()


def _modules(method: object) -> list[str]:
    """The modules that define the method's class and those it is made from, with what they import."""
    defining = {c.__module__ for c in type(method).__mro__} - {"builtins"}
    return sorted(set[str]().union(*(_closure(name) | {name} for name in defining)).difference(HARNESS))


@cache
def _closure(name: str) -> frozenset[str]:
    """The module and all that it imports, directly or not, of its top-level package."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module not in found and file is not None:
            found.add(module)
            waiting += [m for m in _imported(file, module) if m.partition(".")[0] == name.partition(".")[0]]
    return frozenset(found)


def _imported(file: Path, module: str) -> Iterator[str]:
    """The modules that a file names in its imports, those within functions included. A name may be a module's or what stands in one."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*start, *([node.module] if node.module else [])])
            yield whole
            yield from (f"{whole}.{alias.name}" for alias in node.names)


@cache
def _file(module: str) -> Path | None:
    """The module's source file. Only the top-level package is looked up: its parts are found by their path, so nothing is imported."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin)
    if not rest:
        return place if place.suffix == ".py" else None
    inner = place.parent.joinpath(*rest)
    return next((p for p in (inner.with_suffix(".py"), inner / "__init__.py") if place.name == "__init__.py" and p.is_file()), None)


def _content(file: Path | None) -> str:
    """The digest of a file's bytes, with plain line ends; "" where there is none."""
    try:
        data = file.read_bytes() if file is not None else b""
    except OSError:
        return ""
    return hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
