"""Folders of images: `PATH/<class>/.../<image>`, or `train` and `test` (or `val`) with the class
folders in them. Free of torch.

What tools leave in a folder (`.DS_Store`, `._*`, `__MACOSX`, `Thumbs.db`, ...) is no class and no image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airepair.data.arrays import Array, Arrays, assembled
from airepair.data.pictures import ENDINGS, Picture, read_picture
from airepair.errors import UsageError

# How the folders of a division are called, in any case.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
HIDDEN = (
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
)  # besides names with a leading dot
ACCEPTED = "PATH/<class>/<image>, or PATH/train/<class>/<image> and PATH/test/<class>/<image>"


@dataclass(frozen=True, eq=False)
class _ReadFile:
    file: Path
    label: int
    picture: Picture


def read_folder(path: Path) -> Arrays:
    """Reads every image of a folder, in the order of the names. UsageError that names the file or
    folder which does not fit.

    A class is a folder; images in folders below it are its own. What becomes of a `val` beside
    `train`: see arrays.assembled.
    """
    parts = parts_of(path)
    first = parts["train"]
    classes = tuple(f.name for f in _folders(first))
    if not classes:
        raise UsageError(f"{path} holds no class folders; accepted: {ACCEPTED}")
    _refuse_wrapped(path, first)
    read = {name: _read(part, classes) for name, part in parts.items()}
    every = [read_file for files in read.values() for read_file in files]
    coloured = any(r.picture.pixels.ndim == 3 for r in every)
    arrays = {
        name: (_stacked(files, coloured, every[0]), np.array([r.label for r in files]))
        for name, files in read.items()
    }
    notes = (*_unread(path, parts), *_changed([r.picture for r in every], coloured))
    return assembled(arrays, str(path), classes, notes, parts["val"].name if "val" in parts else "")


def parts_of(path: Path) -> dict[str, Path]:
    """Returns the folders of a division ("train" and maybe "val", "test"), or the folder itself as
    "train".
    """
    found: dict[str, Path] = {}
    for folder in _folders(path):
        name = PARTS.get(folder.name.lower())
        if name is None or not _folders(folder):  # a class of vehicles may be called train
            continue
        if name in found:
            raise UsageError(f"{path} holds {found[name].name} and {folder.name}; accepted: one of them")
        found[name] = folder
    if found and "train" not in found:
        held = " and ".join(f.name for f in found.values())
        raise UsageError(f"{path} holds {held}, but no train; accepted: {ACCEPTED}")
    others = [f.name for f in _folders(path) if f not in found.values()]
    if len(found) == 1 and others:
        raise UsageError(
            f"{path} holds {others[0]} beside {found['train'].name}; accepted: "
            f"{ACCEPTED} (val if there is no test)"
        )
    return found or {"train": path}


def _refuse_wrapped(path: Path, first: Path) -> None:
    """Raises UsageError if the class folders are one step further down, or divided one by one."""
    classes = _folders(first)
    inside = classes[0]
    if len(classes) == 1 and len(_folders(inside)) > 1 and not any(_images(inside, deep=False)):
        raise UsageError(
            f"{first} holds one folder only; accepted: {ACCEPTED}; give folder:{inside} if its folders "
            f"are the classes"
        )
    divided = [f.name for f in _folders(inside) if PARTS.get(f.name.lower()) in ("train", "test")]
    if first == path and len(divided) > 1:
        raise UsageError(
            f"{inside} holds {' and '.join(divided)}: the split folders are inside the class folders; "
            f"accepted: {ACCEPTED}"
        )


def _read(path: Path, classes: tuple[str, ...]) -> list[_ReadFile]:
    strange = [f.name for f in _folders(path) if f.name not in classes]
    if strange:
        raise UsageError(
            f"{path / strange[0]} is a class that the training folder does not have; accepted: "
            f"{', '.join(classes[:8])}"
        )
    found = [
        _ReadFile(file, k, read_picture(file))
        for k, name in enumerate(classes)
        for file in _images(path / name)
    ]
    if not found:
        raise UsageError(f"{path} holds no images ({', '.join(ENDINGS)}) in its class folders")
    return found


def _stacked(files: list[_ReadFile], coloured: bool, first: _ReadFile) -> Array:
    """One kind of image for all: grey ones become coloured where others are."""
    for read in files:
        if read.picture.pixels.shape[:2] != first.picture.pixels.shape[:2]:
            here, there = (" x ".join(map(str, r.picture.pixels.shape[:2])) for r in (read, first))
            raise UsageError(
                f"{read.file} is {here}, {first.file.name} {there} (height x width); accepted: "
                f"one size for all"
            )
    images = [r.picture.pixels for r in files]
    return np.stack([np.repeat(x[..., None], 3, 2) if coloured and x.ndim == 2 else x for x in images])


def _changed(pictures: list[Picture], coloured: bool) -> list[str]:
    """What reading changed, for the record."""
    greys, composited = sum(p.pixels.ndim == 2 for p in pictures), sum(p.composited for p in pictures)
    notes = [f"{greys:,} grey images among coloured ones are read as coloured"] if coloured and greys else []
    return notes + ([f"{composited:,} images with a transparent part stand on white"] if composited else [])


def _unread(path: Path, parts: dict[str, Path]) -> list[str]:
    """A note of the folders beside a division; none where the folders are the classes."""
    others = [f.name for f in _folders(path) if path not in parts.values() and f not in parts.values()]
    return [f"not read: {', '.join(others)}"] if others else []


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir() and _visible(f.name))


def _images(path: Path, deep: bool = True) -> Iterator[Path]:
    """The image files of a class folder and of the folders in it, in the order of their names."""
    if not path.is_dir():
        return
    for file in sorted(path.iterdir()):
        if not _visible(file.name):
            continue
        if file.is_dir():
            if deep:
                yield from _images(file)
        elif file.suffix.lower() in ENDINGS:
            yield file


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in HIDDEN
