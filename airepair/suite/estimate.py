"""How long the selected cells take: from their last run, else from other cells of the method in the
column, else from a rough model (the profile's average, times what the method takes of it, times how
much slower the network trains than the profile's own). Free of torch.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airepair.case import Case
from airepair.settings import Profile, profile
from airepair.suite.durations import column_key, stored, training_key
from airepair.suite.session import SELECTION, case_of, out_folder, profile_of

if TYPE_CHECKING:
    from airepair.subjects.user_model.input_spec import ModelSource

NARROW = "resnet18w16"  # a profile's average is this network's if the profile leaves wider ones to a GPU
DATASETS = ("cifar10", "cifar100")  # on these a network that the user brings is measured against it
PATIENCE = 120.0  # seconds for the measurement: it starts a process that loads torch
LONG = 90 * 60.0  # seconds from which on hours are shown


@dataclass(frozen=True)
class Estimate:
    """It holds seconds by node id. `modelled`: those that come from the rough model; `unknown`:
    those that nothing is known of.

    `training`: seconds for subjects that are to be trained, as far as they are known from an
    earlier training.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    modelled: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    training: float = 0.0

    def total(self, ids: Iterable[str], workers: int = 1) -> float:
        """Returns the seconds of these cells and of all training, divided among the workers."""
        return (sum(self.seconds.get(i, 0.0) for i in ids) + self.training) / max(1, workers)


def estimate(config: pytest.Config, cases: Mapping[str, Case], cache: Path) -> Estimate:
    """Returns how long cells take, by node id; `cache` has what earlier runs took, and trained
    baselines.
    """
    own, others = stored(out_folder(config)), stored(cache)
    seconds, modelled, unknown = dict[str, float](), set[str](), set[str]()
    selection = config.stash[SELECTION]
    rough = Rough(selection.models, selection.brought)
    for i, case in cases.items():
        name = profile_of(config, case.dataset)
        found = own.get(i, others.get(column_key(case, name)))
        if found is None:
            found = rough.seconds(case, profile(name))
            (unknown if found is None else modelled).add(i)
        if found is not None:
            seconds[i] = found
    training = _training(config, cases.values(), others, cache)
    return Estimate(seconds, frozenset(modelled), frozenset(unknown), training)


def _training(
    config: pytest.Config, cases: Iterable[Case], others: Mapping[str, float], cache: Path
) -> float:
    """Of the subjects whose baseline is not in the cache; the rough model has its share in each
    cell's average.
    """
    subjects = {(c.dataset, c.model, c.seed): training_key(c, profile_of(config, c.dataset)) for c in cases}
    return sum(
        others.get(key, 0.0)
        for (d, m, s), key in subjects.items()
        if not any(cache.glob(f"{d}-{m}-s{s}-*.safetensors"))
    )


@dataclass(frozen=True)
class Rough:
    """It is the model for cells that have never run.

    Of the networks for a GPU it measures those that the user names (on a CPU no other runs), and
    the files that the user brings.
    """

    named: Collection[str]
    brought: Mapping[str, ModelSource] = field(default_factory=dict)

    def seconds(self, case: Case, chosen: Profile) -> float | None:
        """Returns the profile's average for the method; None if there is none, or if the network cannot
        be measured.
        """
        dataset, architecture = case.dataset.partition("+")[0], case.model.partition("+")[0]
        average, file = chosen.seconds.get(dataset), self.brought.get(case.model)
        if average is not None:
            average *= sum(chosen.times.get(step, 1.0) for step in case.base_method.split("+"))
        wide = any(fnmatchcase(architecture, p) for p in chosen.for_gpu)
        if average is None or not (wide or (file and dataset in DATASETS)):
            return average
        if file:
            times = _slower(dataset, architecture, pickle.dumps(file))
        else:
            times = _slower(dataset, architecture) if case.model in self.named else None
        return None if times is None else average * times


@once
def _slower(dataset: str, model: str, brought: bytes = b"") -> float | None:
    """How many times as long a training step of the registry's model, or of the network in a file
    (its ModelSource, pickled), takes as the narrow network's: measured for a second each, in a
    process of its own, since this one must not load torch.
    """
    words = [sys.executable, "-m", "airepair.runner.speed", dataset, NARROW, "-" if brought else model]
    try:
        found = subprocess.run(words, input=brought, capture_output=True, timeout=PATIENCE, check=True).stdout
        narrow, wide = json.loads(found.splitlines()[-1])
        return float(narrow / wide)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, ZeroDivisionError):
        return None


def cases_of(ids: Iterable[str]) -> dict[str, Case]:
    """The cells among tests."""
    return {i: case for i in ids if (case := case_of(i)) is not None}


def spoken(seconds: float) -> str:
    """Returns a time in words, as `about 40 minutes`."""
    if seconds >= LONG:
        return f"about {seconds / 3600:.1f} hours"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else "a minute or less"
