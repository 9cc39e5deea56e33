"""One trial: a repair for each tuning seed, scored on the validation split. The test split is out of reach: validation stands in its place."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from airepair.case import Case, with_variant
from airepair.methods import build
from airepair.pipeline import prepare, run
from airepair.prepared import Prepared
from airepair.records import Record, append
from airepair.settings import choose_options
from airepair.types import Limit, Subject

TRIALS = "trials.jsonl"
NOTE = "tuning: scores are on the validation split, the test split was left out"


@dataclass
class Bench:
    """The subjects of one data set and model, one a tuning seed, loaded once; `limit` holds for each repair."""

    dataset: str
    model: str
    profile: str
    seeds: tuple[int, ...]
    limit: Limit
    load: Callable[[str, str, int], Subject]
    _subjects: dict[int, Subject] = field(default_factory=dict)

    def subject(self, seed: int) -> Subject:
        """The subject with validation in place of test, and without its fault's test inputs."""
        if seed not in self._subjects:
            found = self.load(self.dataset, self.model, seed)
            data = dataclasses.replace(found.dataset, test=found.dataset.validation, notes=(*found.dataset.notes, NOTE))
            self._subjects[seed] = dataclasses.replace(found, dataset=data, fault=None)
        return self._subjects[seed]

    def ready(self, method: str, number: int, options: Mapping[str, Any], seed: int) -> Prepared:
        """The cell of a trial; trial 0 has the settings that the grid uses by default."""
        chosen = choose_options(self.dataset, self.model, method, self.profile, {})
        origins = {**chosen.origins, **dict.fromkeys(options, f"trial {number}")}
        case = Case(self.dataset, self.model, with_variant(method, f"trial{number}"), seed)
        built = build(method, {**chosen.options, **options})
        return prepare(case, self.subject(seed), built, origins=origins, profile=self.profile, limit=self.limit)


@dataclass(frozen=True)
class Result:
    """A trial's records, one a seed; `value`: mean validation accuracy, None where a seed was not repaired, and `reason` then."""

    value: float | None
    reason: str
    records: tuple[Record, ...]


def try_out(bench: Bench, method: str, number: int, options: Mapping[str, Any], out: Path, facts: Mapping[str, Any]) -> Result:
    """Runs the trial and appends its records to trials.jsonl; the first seed that is not repaired ends it."""
    records: list[Record] = []
    for seed in bench.seeds:
        record = run(bench.ready(method, number, options, seed)).record
        about = {"trial": number, "tuned": dict(options), **facts}
        record = dataclasses.replace(record, provenance={**record.provenance, "tuning": about})
        append(out / TRIALS, record)
        records.append(record)
        if record.status != "repaired":
            return Result(None, f"{record.status}: {record.reason}", tuple(records))
    return Result(statistics.fmean(r.after["accuracy"] for r in records), "", tuple(records))


def default_images(bench: Bench) -> int:
    """The budget where none is given: what finetune's settings would see with all of train and the repair split."""
    chosen = choose_options(bench.dataset, bench.model, "finetune", bench.profile, {})
    data = bench.subject(bench.seeds[0]).dataset
    return int(getattr(build("finetune", chosen.options), "epochs")) * (len(data.train) + len(data.repair))  # noqa: B009 (a Method has no epochs)


def on(device: torch.device) -> str:
    """The device as an origin names it."""
    from airepair.provenance import device_name

    return device_name(device)
