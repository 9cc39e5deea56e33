"""A user's own data: `npz:PATH` (x_train y_train [x_test y_test] [classes]) and `folder:PATH` (class folders of images).

A folder holds the class folders, or `train` and `test` with the class folders in them. All images must have one size; grey ones stay grey.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from airepair.data.arrays import Array, Arrays, check, read_npz
from airepair.data.images import robustness_of, splits_of
from airepair.data.source import Source
from airepair.errors import UsageError, one_line

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
KINDS = ("npz", "folder")


def source(text: str) -> Source:
    """The data set of `npz:PATH` or `folder:PATH`; one group a class, since nothing says which classes are alike."""
    kind, _, place = text.partition(":")
    path = Path(place).expanduser()
    if kind not in KINDS or not place:
        raise UsageError(f"{text!r} is no data of your own; accepted: npz:PATH or folder:PATH")
    if not path.exists():
        raise UsageError(f"{path} does not exist; accepted: {'an npz file' if kind == 'npz' else 'a folder of class folders of images'}")
    arrays = read_npz(path) if kind == "npz" else read_folder(path)
    train, test = splits_of(arrays)
    count = max(int(arrays.y_train.max()), int(arrays.y_test.max()) if arrays.y_test is not None else 0) + 1
    classes = arrays.classes or tuple(str(k) for k in range(count))
    thin = [classes[k] for k, n in enumerate(np.bincount(arrays.y_train, minlength=len(classes))) if n < 4]
    if thin or len(classes) < 2:
        which = f"class {thin[0]!r} has fewer than 4 training images" if thin else "there is one class only"
        raise UsageError(f"{path}: {which}; four splits need at least two classes and 4 images each")
    groups = tuple((k,) for k in range(len(classes)))
    return Source(name_of(path), classes, groups, train, test, robustness_of(train))


def name_of(path: Path) -> str:
    """The file's or folder's name as a part of a case: lower-case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", path.resolve().stem.lower()).strip("_") or "own"


def read_folder(path: Path) -> Arrays:
    """Every image of a folder, in the order of the names. UsageError that names the file which does not fit."""
    parts = [path / "train", path / "test"] if (path / "train").is_dir() and (path / "test").is_dir() else [path]
    classes = tuple(sorted(d.name for d in parts[0].iterdir() if d.is_dir() and not d.name.startswith(".")))
    if not classes:
        raise UsageError(f"{path} holds no class folders; accepted: PATH/<class>/<image> or PATH/train/<class>/<image> and PATH/test/...")
    found = [_images(p, classes) for p in parts]
    (x_train, y_train), (x_test, y_test) = found[0], found[1] if len(found) > 1 else (None, None)
    arrays = Arrays(x_train, y_train, x_test, y_test, str(path), classes)
    check(arrays)
    return arrays


def _images(path: Path, classes: tuple[str, ...]) -> tuple[Array, Array]:
    strange = sorted(d.name for d in path.iterdir() if d.is_dir() and not d.name.startswith(".") and d.name not in classes)
    if strange:
        raise UsageError(f"{path / strange[0]} is a class that the training folder does not have; accepted: {', '.join(classes[:8])}")
    x: list[Array] = []
    y: list[int] = []
    for k, name in enumerate(classes):
        for file in sorted(f for f in (path / name).glob("*") if f.suffix.lower() in ENDINGS):
            image = _pixels(file)
            if x and image.shape != x[0].shape:
                raise UsageError(
                    f"{file} is {image.shape}, the images before it {x[0].shape} (height, width[, colours]); accepted: one size for all"
                )
            x.append(image)
            y.append(k)
    if not x:
        raise UsageError(f"{path} holds no images ({', '.join(ENDINGS)}) in its class folders")
    return np.stack(x), np.array(y)


def _pixels(file: Path) -> Array:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise UsageError(f"{file} has more than 8 bits a pixel ({image.mode}); accepted: 8-bit grey or colour images")
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} is no readable image: {one_line(error, 160)}") from None
