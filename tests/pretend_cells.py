"""Cells on the pretend CUDA device (pretend_cuda.py) or on the CPU, for test_pretend_cuda.py: a
process each, since the device stays installed.

python -m tests.pretend_cells DEVICE KIND FOLDER     prints a line of JSON per cell
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if sys.argv[1:2] == ["cuda"]:
    from tests.pretend_cuda import install

    install()

import torch

from airepair.case import Case
from airepair.corruptions import parse
from airepair.data import load
from airepair.methods import METHODS, build
from airepair.models import build as network
from airepair.records import Record
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loader
from airepair.runner.run import run_cell
from airepair.subjects import recipes
from airepair.subjects.grid import on_device
from airepair.subjects.user_model.input_spec import ModelSource, shipped
from airepair.testing import cells, toy
from airepair.training.best_state import fit
from airepair.types import Recipe, Subject
from tests.testing.test_conformance import OPTIONS

TOYS = ("mlp", "cnn", "plain", "environment")
GRID = {
    "trained": "cnn",
    "healthy": "fc+clean",
    "imbalanced": "fc+imbalanced",
    "backdoor": "fc+backdoor",
    "damaged": "fc+damaged",
}
FILES = ("torch file", "Keras file")
WAYS = ("noop", "finetune", "dl2", "memit")  # one of each kind, for subjects whose kind is what is tested


def toy_subject(kind: str, device: torch.device) -> Subject:
    """The toy of that kind: weights and images of the CPU's, brought to the device."""
    found = toy.subject("cnn" if kind == "environment" else kind)  # type: ignore[arg-type]
    early = {name: module.to(device) for name, module in found.checkpoints.items()}
    found = replace(
        found, module=found.module.to(device), dataset=on_device(found.dataset, device), checkpoints=early
    )
    if kind != "environment":
        return found
    return replace(found, environment=parse("fog3"), pool=toy.images(60, 9).to(device))


def toy_cells(kind: str, device: torch.device) -> Iterator[Record]:
    """Every method on it, at the conformance suite's short options."""
    for name in METHODS.builtin:
        method = build(name, OPTIONS.get(name, {}))
        yield cells.run(
            cells.prepare(Case("toy", kind, name, 0), toy_subject(kind, device), method, device=str(device))
        ).record


def grid_cells(kind: str, device: torch.device, folder: Path) -> Iterator[Record]:
    """Some methods on a subject of the grid, trained for three epochs, or on a file."""
    epochs = replace(recipes.DIGITS, recipe=replace(recipes.DIGITS.recipe, epochs=3))
    recipes.TRAININGS["digits"] = epochs
    brought = file_of(kind, folder)
    loader = Loader(folder / "cache")
    for name in WAYS:
        model = GRID.get(kind, kind.replace(" ", "_").lower())
        options = OPTIONS.get(name, {})
        spec = CellSpec(Case("digits", model, name, 0), "smoke", options, device=str(device), brought=brought)
        yield run_cell(spec, cache=folder / "cache", load=loader).record


def file_of(kind: str, folder: Path) -> ModelSource | None:
    """The file that a user brings; None for a subject that is trained here."""
    if kind == "Keras file":
        return shipped("digits", "keras_cnn")
    if kind != "torch file":
        return None
    return ModelSource(digits_file(folder), net_arch="fc")


def digits_file(folder: Path) -> Path:
    """A fully connected network for digits, trained on the CPU for three epochs."""
    torch.manual_seed(0)
    module = network("fc", "digits", 10, (1, 8, 8))
    fit(module, load("digits").train, None, Recipe(epochs=3), torch.Generator().manual_seed(0))
    torch.save(module.state_dict(), folder / "mine.pt")
    return folder / "mine.pt"


def main(device: str, kind: str, folder: str) -> None:
    """Prints each cell's status, reason, images and accuracy."""
    torch.set_num_threads(1)
    where = torch.device(device)
    found = toy_cells(kind, where) if kind in TOYS else grid_cells(kind, where, Path(folder))
    for record in found:
        said: dict[str, Any] = {
            "method": record.case.method,
            "status": record.status,
            "reason": record.reason,
        }
        images = {k: v for k, v in record.budget.items() if k in ("backward", "selection", "taken_back")}
        print(
            json.dumps(
                said
                | {"images": images, "accuracy": record.after.get("accuracy"), "notes": list(record.notes)}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
