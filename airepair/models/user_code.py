"""An architecture of the user's own: `package.module:factory` or `file.py:Net`. Running it
runs the user's code, and a line on the terminal states that.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.models.recognise import differences, load_weights, without_prefix

CLASSES = (
    "classes",
    "num_classes",
    "n_classes",
    "nb_classes",
    "num_class",
)  # how factories call the number of classes
ACCEPTED = "package.module:factory or file.py:Net"


@dataclass(frozen=True, eq=False)
class OwnCode:
    """It holds a factory of networks, the user's pre-processing of images in [0, 1] (N x C x H x W)
    if there is one, and the layers defined beside; the file that they stand in, if there is one.
    """

    text: str
    factory: Callable[..., nn.Module]
    preprocess: Callable[[Tensor], Tensor] | None
    layers: tuple[type, ...]
    file: Path | None = None

    def network(self, classes: int) -> nn.Module:
        """Returns an untrained network. UsageError for whatever the user's code raises."""
        with _errors_in_one_line(self.text):
            module = self.factory(**_keywords(self.factory, classes))
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"--net_arch {self.text} gives a {type(module).__name__}; accepted: "
                f"a factory or class of torch.nn.Module"
            )
        return module.float().eval()

    def load(self, tensors: Mapping[str, Tensor], classes: int) -> nn.Module:
        """Returns the network with these weights; UsageError that names the first tensors that
        differ.
        """
        module = self.network(classes)
        state = dict(tensors)
        while (problem := differences(module, state)) and (shorter := without_prefix(state)) is not None:
            state = shorter
        if problem:
            raise UsageError(f"the weights do not fit --net_arch {self.text}: {problem}")
        load_weights(module, state)
        return module


def is_own_code(text: str | None) -> bool:
    """Returns whether a `--net_arch` names code and not a registered architecture."""
    return text is not None and ":" in text


def own_code(text: str) -> OwnCode:
    """Imports what the text names. UsageError if it is not there or its code raises."""
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"--net_arch {text!r} is not understood; accepted: {ACCEPTED}")
    # Every door prints this line, because a user must see that code runs which is not of this project.
    print(f"airepair: running the code of {place} (named by --net_arch)", file=sys.stderr)
    with _errors_in_one_line(text):
        module = _from_file(Path(place).expanduser()) if place.endswith(".py") else _from_package(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [
            k
            for k, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == module.__name__
        ]
        raise UsageError(
            f"--net_arch {text}: {place} has no {name!r} that can be called; accepted: "
            f"{', '.join(known[:12]) or 'nothing there'}"
        )
    layers = tuple(
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, nn.Module) and v.__module__ == module.__name__
    )
    preprocess = getattr(module, "preprocess", None)
    file = Path(getattr(module, "__file__", None) or "")
    own = file if file.is_file() else None
    return OwnCode(text, factory, preprocess if callable(preprocess) else None, layers, own)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"--net_arch: there is no file {path}; accepted: {ACCEPTED}")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    with _importable(path.parent):
        sys.modules.setdefault(path.stem, module)  # a pickled class is found by this name
        found.loader.exec_module(module)
    return module


def _from_package(place: str) -> ModuleType:
    with _importable(Path(os.getcwd())):
        return importlib.import_module(place)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What lies in the folder can be imported by the user's code while it is loaded."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


@contextmanager
def _errors_in_one_line(text: str) -> Iterator[None]:
    """One clear line for whatever the user's code raises, and its seeds are its own."""
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"--net_arch {text} raises {one_line(error, 200)}") from error


def _keywords(factory: Callable[..., object], classes: int) -> dict[str, int]:
    """How the factory is called: with the number of classes where it takes it by one of its usual
    names, or has one argument without default.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    named = next((name for name in CLASSES if name in parameters), None)
    needed = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return {named: classes} if named else {needed[0]: classes} if len(needed) == 1 else {}
