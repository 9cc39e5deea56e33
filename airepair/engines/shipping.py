"""What a cell needs on another machine beside its subject and its data set: code, a user's files and
images. Free of torch and of Ray.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import airepair
from airepair.errors import UsageError
from airepair.host.atomic import write_atomically
from airepair.host.digest import of_parts
from airepair.runner.cell import CellSpec

Files = Mapping[str, bytes]  # by the path below a folder
LEFT = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".mypy_cache", ".ruff_cache")


def digest(files: Files) -> str:
    """Returns the SHA-256 over names and contents."""
    return of_parts(f"{name}:{len(content)};".encode() + content for name, content in sorted(files.items()))


def lay(files: Files, folder: Path) -> None:
    """Writes the files that are not in the folder yet; each whole or not at all."""
    for name, content in files.items():
        if not (folder / name).exists():
            write_atomically(folder / name, content)


def user_files(spec: CellSpec) -> Files:
    """Returns a brought model with what lies beside it and is read with it, and the images of
    --failing and --keep.
    """
    found: dict[str, bytes] = {}
    if spec.brought is not None:
        path = spec.brought.path.expanduser()
        values, _ = spec.brought.beside()
        named = [path.parent / str(values[k]) for k in ("early", "classes") if isinstance(values.get(k), str)]
        parts = [
            path,
            *path.parent.glob(f"{path.stem}.*"),
            *path.parent.glob(f"{path.name}*"),
            path.parent / "subject.toml",
        ]
        for part in {*parts, path.parent / "early.pt", *named}:
            found |= _read(part, "model", path.parent)
        if spec.brought.early is not None:
            found |= _read(spec.brought.early.expanduser(), "early", spec.brought.early.expanduser().parent)
    for role, text in (("failing", spec.failing), ("keep", spec.keep)):
        if text is not None:
            place = Path(text.partition(":")[2]).expanduser()
            found |= _read(place, role, place.parent)
    return found


def relocated(spec: CellSpec, folder: Path) -> CellSpec:
    """Returns the cell with the paths that `user_files` have below `folder`."""
    if spec.brought is not None:
        early = spec.brought.early and folder / "early" / spec.brought.early.name
        spec = replace(
            spec, brought=replace(spec.brought, path=folder / "model" / spec.brought.path.name, early=early)
        )
    return replace(
        spec, failing=_moved(spec.failing, folder / "failing"), keep=_moved(spec.keep, folder / "keep")
    )


def _moved(text: str | None, folder: Path) -> str | None:
    """`npz:PATH` with the file of that name in the folder."""
    kind, _, place = (text or "").partition(":")
    return f"{kind}:{folder / Path(place).name}" if place else None


def _read(place: Path, role: str, root: Path) -> dict[str, bytes]:
    paths = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return {(Path(role) / p.relative_to(root)).as_posix(): p.read_bytes() for p in paths}


def stage_code(folder: Path, specs: Iterable[CellSpec]) -> None:
    """Copies this package and the user's own code that the cells name into `folder`, as a working
    directory finds it.

    Own methods are `module:Class`, own networks `package.module:factory` or `file.py:Net`.
    UsageError for code that is not found.
    """
    shutil.copytree(Path(airepair.__file__).parent, folder / "airepair", ignore=LEFT)
    for text in dict.fromkeys(text for spec in specs for text in _own_code(spec)):
        place = text.rpartition(":")[0]
        if place.endswith(".py"):
            _stage_file(Path(place).expanduser(), folder)
        else:
            _stage_module(place.partition(".")[0], folder)


def _own_code(spec: CellSpec) -> list[str]:
    parts = [p for p in spec.case.base_method.split("+") if ":" in p and not p.startswith("tool:")]
    net_arch = spec.brought.net_arch if spec.brought else None
    return parts + ([net_arch] if net_arch and ":" in net_arch else [])


def _stage_file(path: Path, folder: Path) -> None:
    """A file at the path by which it is named, with the Python files beside it."""
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"--net_arch {path}: cells on other machines need a path below this folder; accepted: "
            f"for example nets.py:Net"
        )
    (folder / path.parent).mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob("*.py"):
        shutil.copyfile(file, folder / path.parent / file.name)


def _stage_module(name: str, folder: Path) -> None:
    """A package whole; a module with the Python files beside it."""
    found = find_spec(name)
    if found is None or (found.origin is None and not found.submodule_search_locations):
        raise UsageError(
            f"the code of {name!r} is not found here; accepted: a module of this folder or of PYTHONPATH"
        )
    for place in found.submodule_search_locations or ():
        shutil.copytree(place, folder / name, ignore=LEFT, dirs_exist_ok=True)
    if not found.submodule_search_locations and found.origin is not None:
        _copy_beside(Path(found.origin), folder)


def _copy_beside(path: Path, folder: Path) -> None:
    for file in path.parent.glob("*.py"):
        shutil.copyfile(file, folder / file.name)
