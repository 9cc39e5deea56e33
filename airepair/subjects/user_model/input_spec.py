"""How a user's network is fed, as stated by options, a TOML file beside the model, or the model file
itself. Free of torch.

The first that says something wins: the option, `<stem>.toml` or `subject.toml` beside the file, the
file, then the default. Where each value came from is kept beside it.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from airepair.errors import UsageError, choose, one_line
from airepair.host.validation import checked, toml_file
from airepair.models import MODELS
from airepair.models.layouts import LAYOUTS

COLOURS = ("rgb", "bgr")
FIELDS = ("input_range", "mean", "std", "layout", "colours", "classes")
# What a TOML file beside a model may hold. The fields of InputSpec may be words as on the command
# line: `stated` reads them.
Beside = msgspec.defstruct(
    "Beside",
    [
        *((name, Any, None) for name in FIELDS),
        *((name, str | None, None) for name in ("trained_on", "net_arch", "fault", "early", "weights")),
        *((name, int | None, None) for name in ("depth", "divided_by")),
    ],
    forbid_unknown_fields=True,
)


@dataclass(frozen=True)
class InputSpec:
    """What a network wants of an image; None is not stated.

    input_range  the numbers that black and white pixels are turned into, (0.0, 255.0) for example
    mean, std    subtracted and divided by afterwards: in the units of that range, one for all
                 channels or one each, in the network's order
    layout       axes of the network's input, a word of LAYOUTS; where the file tells them they need
                 not be stated
    colours      order of the channels
    classes      the names of the network's outputs, in their order
    origins      field -> where its value came from
    """

    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: str | None = None
    colours: str | None = None
    classes: tuple[str, ...] | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: InputSpec) -> InputSpec:
        """What is stated here, and what only `other` states. Mean and standard deviation belong together."""
        taken = {
            k: getattr(other, k) for k in FIELDS if getattr(self, k) is None and getattr(other, k) is not None
        }
        if self.mean is not None or self.std is not None:
            taken.pop("mean", None), taken.pop("std", None)
        return replace(
            self, **taken, origins={**{k: other.origins.get(k, "stated") for k in taken}, **self.origins}
        )


@dataclass(frozen=True)
class ModelSource:
    """It holds a model file and what its user says of it; what is None is read from a TOML file
    beside it or from the file itself.

    net_arch    `resnet`, a name of the registry, `package.module:factory` or `file.py:Net` (that
                code is the user's, and is run)
    trained_on  as Subject.trained_on; "official train" if nothing says so
    name        the model of its cases; the file's name where None
    early       a file with an earlier state of the same training
    weights     the key of the weights in a checkpoint that holds several
    """

    path: Path
    net_arch: str | None = None
    depth: int | None = None
    feeding: InputSpec = field(default_factory=InputSpec)
    trained_on: str | None = None
    trust_pickle: bool = False
    trust_lambda: bool = False
    name: str | None = None
    early: Path | None = None
    weights: str | None = None

    def beside(self) -> tuple[Mapping[str, Any], str]:
        """What a TOML file beside the model file says, and that file's name."""
        return beside(self.path.expanduser())


def stated(values: Mapping[str, Any], origin: str, folder: Path) -> InputSpec:
    """Returns the InputSpec of values that are words or TOML values.

    UsageError that names the value; a class file is looked for in `folder`.
    """
    v = values
    given = InputSpec(
        None if v.get("input_range") is None else pixel_range(v["input_range"]),
        None if v.get("mean") is None else numbers("mean", v["mean"]),
        None if v.get("std") is None else numbers("std", v["std"]),
        None if v.get("layout") is None else _layout(str(v["layout"])),
        None if v.get("colours") is None else choose("colours", str(v["colours"]).lower(), COLOURS),
        None if v.get("classes") is None else class_names(v["classes"], folder),
        dict.fromkeys((k for k in FIELDS if v.get(k) is not None), origin),
    )
    if given.std is not None and not all(s > 0 for s in given.std):
        raise UsageError(f"std {given.std} is out of range; accepted: numbers above 0")
    if (given.mean is None) != (given.std is None):
        missing, other = ("mean", "std") if given.mean is None else ("std", "mean")
        raise UsageError(f"{other} is given without {missing}; accepted: both or none")
    return given


def _layout(text: str) -> str:
    known = {word.lower(): word for word in LAYOUTS}
    return choose("layout", known.get(text.lower(), text), tuple(LAYOUTS))


def pixel_range(value: Any) -> tuple[float, float]:
    """Reads `0..255`, `-1..1`, or two numbers."""
    words = value.split("..") if isinstance(value, str) else value
    try:
        low, high = (float(w) for w in words)
    except (TypeError, ValueError):
        raise UsageError(
            f"input range {value!r} is not understood; accepted: LOW..HIGH, for example 0..255, 0..1 or -1..1"
        ) from None
    if low == high or not math.isfinite(low) or not math.isfinite(high):
        raise UsageError(
            f"input range {value!r} is empty; accepted: LOW..HIGH, for example 0..255, 0..1 or -1..1"
        )
    return low, high


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Reads `0.5`, `0.49,0.48,0.45`, a number or a list."""
    words = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    )
    try:
        found = tuple(float(w) for w in words)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(math.isfinite(v) for v in found):
        raise UsageError(
            f"{name} {value!r} is not understood; accepted: a number, or one for each channel: 0.49,0.48,0.45"
        )
    return found


def class_names(value: Any, folder: Path) -> tuple[str, ...]:
    """Reads a list of names, or a file with one per line, in the order of the network's outputs."""
    if isinstance(value, list | tuple):
        return tuple(str(v) for v in value)
    path = folder / Path(str(value)).expanduser()
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"class file {path} cannot be read: {one_line(error)}; accepted: one class name per line, "
            f"in the model's order"
        ) from None
    if not names:
        raise UsageError(
            f"class file {path} is empty; accepted: one class name per line, in the order of the model's "
            f"outputs"
        )
    return tuple(names)


def beside(path: Path) -> tuple[Mapping[str, Any], str]:
    """What `<stem>.toml` or `subject.toml` beside a model file says, and that file's name ("" if
    there is none).
    """
    for name in (f"{path.stem}.toml", "subject.toml"):
        file = path.parent / name
        if not file.is_file():
            continue
        values = {k.replace("-", "_"): v for k, v in toml_file(file, "how the model is fed").items()}
        checked(values, Beside, str(file))
        return values, name
    return {}, ""


SHIPPED = ("digits", "keras_cnn")  # data set and model of the file that this package itself brings


def shipped(dataset: str, model: str) -> ModelSource | None:
    """Returns the model file that this package itself brings under that name, with the TOML file
    beside it; None if there is none.

    `digits-keras_cnn` is a small Keras network: every run that has the extra tests the way of
    a user's file with it.
    """
    if (dataset, model) != SHIPPED:
        return None
    return ModelSource(
        Path(str(files("airepair.models").joinpath("shipped/digits_keras_cnn.h5"))), name=model
    )


def case_name(path: Path) -> str:
    """Returns the file's name as the model of a case: lower-case letters, digits and underscores;
    never that of a registered architecture.
    """
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "model"
    taken = {n.rpartition("/")[2] for n in MODELS.names()}
    return f"{name}_file" if name in taken or re.fullmatch(r"resnet\d+w\d+", name) else name


def brought_from(arguments: argparse.Namespace, path: str | Path | None = None) -> ModelSource:
    """Returns `path` (or `--pretrained`) with the options about a model file, among them
    `--net_arch`.

    UsageError for a value that cannot be.
    """
    feeding = stated(
        {k: getattr(arguments, k) for k in ("input_range", "mean", "std", "layout", "colours", "classes")},
        "option",
        Path(),
    )
    return ModelSource(
        Path(arguments.pretrained if path is None else path).expanduser(),
        getattr(arguments, "net_arch", None),
        getattr(arguments, "depth", None),
        feeding,
        arguments.trained_on,
        arguments.trust_pickle,
        arguments.trust_lambda,
        early=Path(arguments.early).expanduser() if arguments.early else None,
        weights=arguments.weights,
    )
