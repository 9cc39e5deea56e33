"""One trial: a repair for each tuning seed, scored on the validation split.

The test split is out of reach: the spec asks for validation alone.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from airepair.case import Case, with_variant
from airepair.engines.command import Cells
from airepair.records import Record, append
from airepair.runner.cell import CellResult, CellSpec
from airepair.runner.events import Events
from airepair.runner.loading import Loader
from airepair.runner.prepared import prepare
from airepair.runner.provenance import device_name
from airepair.runner.repair import task_of
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.settings import Chosen
from airepair.types import Limit

TRIALS = "trials.jsonl"


@dataclass
class Bench:
    """It holds the subjects of one data set and model, one per tuning seed; what all trials share."""

    dataset: str
    model: str
    seeds: tuple[int, ...]
    shared: Shared
    loader: Loader
    cells: Cells

    @property
    def profile(self) -> str:
        """Returns the profile's name."""
        return self.shared.profile_of(self.dataset)

    def spec(self, method: str, number: int, options: Mapping[str, Any], seed: int) -> CellSpec:
        """Returns the cell of a trial; trial 0 has the settings that the grid uses by default."""
        case = Case(self.dataset, self.model, with_variant(method, f"trial{number}"), seed)
        chosen = chosen_options(case, self.model, self.profile, {})
        origins = {**chosen.origins, **dict.fromkeys(options, f"trial {number}")}
        return cell_spec(self.shared, case, Chosen({**chosen.options, **options}, origins))


@dataclass(frozen=True)
class Result:
    """It holds a trial's records, one per seed; `value`: mean validation accuracy, None if a seed
    was not repaired, and `reason` then.
    """

    value: float | None
    reason: str
    records: tuple[Record, ...]


def try_out(
    bench: Bench, method: str, number: int, options: Mapping[str, Any], out: Path, facts: Mapping[str, Any]
) -> Result:
    """Runs the trial and appends its records to trials.jsonl; the first seed that is not repaired ends it."""
    records: list[Record] = []
    for seed in bench.seeds:
        spec = bench.spec(method, number, options, seed)
        end = bench.cells.run(spec, bench.loader)
        record = end.record if isinstance(end, CellResult) else end.record(spec.case)
        about = {"trial": number, "tuned": dict(options), **facts}
        record = dataclasses.replace(record, provenance={**record.provenance, "tuning": about})
        append(out / TRIALS, record)
        records.append(record)
        if record.status != "repaired":
            return Result(None, f"{record.status}: {record.reason}", tuple(records))
    return Result(statistics.fmean(r.after["accuracy"] for r in records), "", tuple(records))


def default_images(bench: Bench) -> int:
    """Returns the budget of a trial if none is given: the largest that a method of the column
    declares, to which the controls train, too.
    """
    spec = bench.spec("finetune", 0, {}, bench.seeds[0])
    task = task_of(prepare(spec, bench.loader(spec)), Events(Limit(), lambda *_: None))
    assert task.column_budget is not None
    return task.column_budget


def on(device: torch.device) -> str:
    """Returns the device as an origin names it."""
    return device_name(device)
