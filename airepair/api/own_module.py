"""One repair of a module that the caller holds, through the stages of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from airepair.case import Case
from airepair.records import Record
from airepair.runner.loading import Loaded
from airepair.runner.outcome import outcome
from airepair.runner.prepared import prepare
from airepair.runner.repair import repair as run_repair
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.runner.variants import check
from airepair.subjects.own_module import Arrays, subject_of

if TYPE_CHECKING:
    from airepair.types import Dataset


@dataclass(frozen=True, eq=False)
class Repair:
    """Holds a finished repair: the module (None unless `record.status` is "repaired") and the record, as
    the benchmark files it.
    """

    module: nn.Module | None
    record: Record

    @property
    def before(self) -> Mapping[str, float]:
        """Returns the scores of the module that was given."""
        return self.record.before

    @property
    def after(self) -> Mapping[str, float]:
        """Returns the scores of the repaired one."""
        return self.record.after


def repair(
    module: nn.Module,
    data: str | Dataset | Arrays,
    method: str = "finetune",
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    trained_on: str = "official train",
) -> Repair:
    """Repairs a copy of a classifier; the module that was given stays as it is.

    module      takes float images in [0, 1], N x C x H x W, and returns logits, N x K; on any
                device
    data        the name of a data set (`mnist`, `npz:PATH`, `folder:PATH`; `trained_on` says what
                the module has seen of it), a Dataset, or arrays: {"repair": (x, y), "validation":
                ..., "test": ...} and, if a method is to learn from it, "train"; x is N x C x H x W,
                uint8 or float in [0, 1], y is N class ids, 0 to K - 1
    method      a name of `airepair list methods`, with a variant in brackets if need be
                (`apricot[random_sets]`), or `package.module:Class`
    options     of the method; the rest are its defaults and the reviewed settings

    UsageError for anything that cannot be meant, and for a module that does not answer the images
    with finite logits. Whatever the method does is in the record of what is returned.
    """
    subject = subject_of(module, data, seed, trained_on)
    dataset = subject.dataset.name
    shared = Shared(device=str(subject.dataset.test.x.device))
    case = Case(dataset, "own", check(method), seed)
    chosen = chosen_options(case, "own", shared.profile_of(dataset), options or {})
    ready = prepare(cell_spec(shared, case, chosen), Loaded(subject))
    found = outcome(ready, run_repair(ready))
    return Repair(found.module, found.record)
