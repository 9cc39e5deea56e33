"""The subject of a cell: trained once, read from a file or given a fault; held between neighbouring
cells for as long as it is what it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from airepair.errors import NotTrained
from airepair.host.tensor_cache import digest_of_module as of_module
from airepair.runner.cell import CellSpec
from airepair.runner.feature_cache import Examiner
from airepair.subjects.grid import OWN_PAIR, load
from airepair.subjects.user_model.load import brought_model
from airepair.types import Split, Subject, Task

if TYPE_CHECKING:
    from airepair.formats.model_file import ModelFile
    from airepair.subjects.user_model.load import UserModel

MOST = 2  # subjects that are held: a worker's next cell is mostly of the last one or of the one before
Progress = Callable[[str, int, int, float], None]
Load = Callable[[CellSpec], "Loaded"]


def silent(phase: str, step: int, steps: int, loss: float) -> None:
    """Shows nothing."""


@dataclass(eq=False)
class Loaded:
    """It holds a subject, the way back to its file if it has one, and the digests of all that a
    method must leave alone.

    `spoilt`: something that must stay changed it; whoever holds it must load it again.
    """

    subject: Subject
    opened: ModelFile | None = None
    digests: dict[str, str] = field(default_factory=dict)
    spoilt: bool = False

    def __post_init__(self) -> None:
        self.digests = self.digests or digests(self.subject)
        self.forget()

    def forget(self) -> None:
        """Drops what was examined."""
        self.examiner = Examiner(self.subject.module)


class Loader:
    """Loads subjects and holds the last `most`.

    `cache` is where trained baselines stay between runs; `may_train` False trains nothing.
    """

    def __init__(
        self, cache: Path, progress: Progress = silent, *, may_train: bool = True, most: int = MOST
    ) -> None:
        self.cache, self.progress, self.may_train, self.most = cache, progress, may_train, most
        self.held: dict[str, Loaded] = {}
        self.opened: dict[str, UserModel] = {}

    def __call__(self, spec: CellSpec) -> Loaded:
        """The subject of a cell.

        UsageError for what cannot be meant, Unavailable if something is missing on this machine.
        """
        key = repr(
            (spec.data, spec.case.model, spec.profile, spec.device, spec.brought, spec.case.seed, spec.repair)
        )
        found = self.held.pop(key, None)
        if found is not None and found.spoilt:
            found = None
            self.opened.clear()
        if found is None:
            found = self._load(spec)
        for other in self.held.values():
            other.forget()  # features of one subject at a time
        self.held[key] = found
        while len(self.held) > self.most:
            del self.held[next(iter(self.held))]
        return found

    def without_training(self, spec: CellSpec) -> Loaded | None:
        """Returns the subject if its baseline is in the cache, None if it would have to be trained.

        It is not held if it lacks the class pair of its column: the cell itself trains for that.
        """
        may_train, self.may_train = self.may_train, False
        try:
            found = self(spec)
        except NotTrained:
            return None
        finally:
            self.may_train = may_train
        if may_train and OWN_PAIR in found.subject.dataset.notes:
            self.held = {key: loaded for key, loaded in self.held.items() if loaded is not found}
        return found

    def _load(self, spec: CellSpec) -> Loaded:
        device = torch.device(spec.device)
        if spec.brought is not None:
            model = self._opened(spec, device)
            return Loaded(model.subject(spec.case.seed), model.opened)
        show = self.progress if self.may_train else _refuse
        case = spec.case
        return Loaded(
            load(
                spec.data,
                case.model,
                case.seed,
                profile=spec.profile,
                device=device,
                cache=self.cache,
                progress=show,
            )
        )

    def _opened(self, spec: CellSpec, device: torch.device) -> UserModel:
        """The file of a cell, opened once for all seeds."""
        assert spec.brought is not None
        key = repr((spec.brought, spec.data, spec.profile, spec.device, spec.repair))
        if key not in self.opened:
            self.opened = {
                key: brought_model(
                    spec.brought, spec.data, profile=spec.profile, device=device, repair=spec.repair
                )
            }
        return self.opened[key]


def _refuse(phase: str, step: int, steps: int, loss: float) -> None:
    raise NotTrained("the cache has no baseline of this name for this profile, device and version")


def on_validation(subject: Subject) -> Subject:
    """Returns the subject with validation in place of test and without its fault's test inputs:
    nothing of test can reach a score.
    """
    note = "examined on validation: the test split was left out"
    data = dataclasses.replace(
        subject.dataset, test=subject.dataset.validation, notes=(*subject.dataset.notes, note)
    )
    return dataclasses.replace(subject, dataset=data, fault=None)


def digests(subject: Subject) -> dict[str, str]:
    """Returns the digests of the weights, of every split and of what else a task is made from, by
    what a reader calls it.
    """
    data = subject.dataset
    splits = {name: getattr(data, name) for name in ("train", "repair", "validation", "test")} | {
        "pool": subject.pool
    }
    modules = {
        "the subject": subject.module,
        **{f"the {name} checkpoint": m for name, m in subject.checkpoints.items()},
    }
    found = {name: of_module(module) for name, module in modules.items()}
    return found | {
        f"the {name} images": split.digest() for name, split in splits.items() if split is not None
    }


def changed(subject: Subject, loaded: Mapping[str, str]) -> list[str]:
    """What of the subject and its data is not what was loaded."""
    now = digests(subject)
    return [name for name, digest in loaded.items() if now.get(name) != digest]


def written(task: Task, given: Mapping[str, Split | Tensor]) -> list[str]:
    """Returns the inputs of a task that are no longer equal to what it was given."""
    return [name for name, value in given.items() if not _same(getattr(task, name), value)]


def _same(found: Split | Tensor, given: Split | Tensor) -> bool:
    if isinstance(found, Split) and isinstance(given, Split):
        return _same(found.x, given.x) and _same(found.y, given.y)
    assert isinstance(found, Tensor)
    assert isinstance(given, Tensor)
    return found.dtype == given.dtype and found.shape == given.shape and torch.equal(found, given)
