"""The cells: every method on digits-fc as the grid runs it, and with small budgets on both
networks, so that an emulator can repeat them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import scipy
import torch

import airepair
from airepair import data
from airepair.case import Case
from airepair.host.arithmetic.canary import arithmetic, measured
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loaded, Loader
from airepair.runner.run import run_cell
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.subjects.baseline import trained
from airepair.subjects.grid import spoil
from airepair.subjects.recipes import training_of
from benchmarks.grid import methods

from .walk import walking

EPOCHS = 4  # of the subject of a short cell
# Budgets under which a cell takes an emulator a minute: what a method does is the same, only less
# of it. Without an environment two of them ask what distorts the images.
SMALL: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 2},
    "interpolate": {"epochs": 2},
    "apricot": {"submodels": 4, "submodel_epochs": 1, "further_epochs": 1},
    "deeprepair": {"epoch": 2},
    "deeprepair_style": {"corruption": "fog3", "epochs": 1},
    "dl2": {"epochs": 1},
    "arachne": {"population": 6, "generations": 2},
    "care": {"particles": 4, "iterations": 3, "sample": 16},
    "editable": {"group": 16, "steps": 3, "rehearsal": 32},
    "counterexample": {"samples": 60, "rounds": 1, "epochs": 1},
    "mode": {"rounds": 1, "epochs": 1, "probes": 100},
    "deepcorrect": {"distortion": "noise", "epochs": 1, "sample": 20, "draws": 1, "layers": 1, "width": 8},
    "irepair": {"iterations": 20},
    "prdnn": {"points": 2, "keep": 2},
    "aprnn": {"points": 4},
}

# Linear programs have all the time they want: a clock's verdict is not the same on two machines.
PATIENT: dict[str, dict[str, Any]] = {name: {"seconds": 1e6} for name in ("aprnn", "minimal", "prdnn")}


def content(short: bool, named: Sequence[str], walk: Path | None) -> int:
    """Prints the digests; 1 where this process is not portable."""
    if not _portable():
        return 1
    print(json.dumps(digests(short, named, walk), indent=1))
    return 0


def whole(file: Path) -> int:
    """Writes both kinds of cells with what they depend on; 1, and no file, where this process is
    not portable.
    """
    if not _portable():
        return 1
    found = {"about": about(), "cells": digests(False, (), None), "short": digests(True, (), None)}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file}")
    return 0


def _portable() -> bool:
    torch.set_num_threads(1)
    portable = arithmetic(torch.device("cpu")) == "portable"
    if not portable:
        print(f"the canary's digest {measured()} is not a known portable one", file=sys.stderr)
    return portable


def about() -> dict[str, Any]:
    """The versions that the digests belong to: another one may add up in another order."""
    versions = {
        "torch": torch.__version__.partition("+")[0],
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }
    return {"benchmark_version": airepair.BENCHMARK_VERSION, "canary": measured(), **versions}


def digests(short: bool, named: Sequence[str], walk: Path | None) -> dict[str, dict[str, str]]:
    """Per cell how it ended and the digests of repaired weights and scores."""
    found: dict[str, dict[str, str]] = {}
    with TemporaryDirectory(prefix="airepair-portable-") as folder, ExitStack() as stack:
        cache, loader = Path(folder), Loader(Path(folder))
        held: dict[str, Loaded] = {}
        for spec in specs(short, named):
            watched = stack.enter_context(walking(walk / f"{spec.case}.txt")) if walk else (lambda f: f())
            model = spec.case.model
            if short and model not in held:
                held[model] = Loaded(_short_subject(model, cache))
            load = (lambda _, model=model: held[model]) if short else loader
            record = run_cell(spec, cache=cache, call=watched, load=load).record
            scores = hashlib.sha256(json.dumps(dict(record.after), sort_keys=True).encode()).hexdigest()[:16]
            weights = str(record.subject.get("repaired_weights", ""))[:16]
            found[str(spec.case)] = {
                "status": record.status,
                "weights": weights,
                "scores": scores if record.after else "",
            }
            print(spec.case, *found[str(spec.case)].values(), record.reason[:80], file=sys.stderr, flush=True)
            stack.close()
    return found


def specs(short: bool, named: Sequence[str]) -> Iterator[CellSpec]:
    """The cells, one subject after the other."""
    shared = Shared(profile="smoke")
    for model in ("fc", "cnn") if short else ("fc",):
        for method in (m for m in methods() if not named or m in named):
            case = Case("digits", model, method, 0)
            given = (SMALL.get(method, {}) if short else {}) | PATIENT.get(method, {})
            yield replace(cell_spec(shared, case, chosen_options(case, model, "smoke", given)), pgd=False)


def _short_subject(model: str, cache: Path) -> Any:
    training = training_of("digits", model)
    training = replace(training, recipe=replace(training.recipe, epochs=EPOCHS))
    return trained(
        f"digits-{model}", spoil(data.load("digits", seed=0), training, 0), model, training, 0, cache
    )
