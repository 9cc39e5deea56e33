"""`--testonly`: what the metrics say of one model, before or after a repair, with no repair.

The same exams as in a record.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence

import numpy as np

from airepair.case import Case
from airepair.cli.repair.progress import Show
from airepair.cli.repair.targets import Target
from airepair.metrics import METRICS
from airepair.paths import cache
from airepair.report.table import Entry, Heading, Row, Table
from airepair.runner.artifacts import CLASSES, PREDICTIONS
from airepair.runner.cell import CellResult, Deaf
from airepair.runner.run import run_cell
from airepair.runner.specify import Shared, cell_spec
from airepair.settings import Chosen

# The metrics that say something of one model; the others compare two.
OF_ONE = (
    *(
        "accuracy",
        "constraint",
        "constraint_tempered",
        "robustness",
        "similarity",
        "confusion",
        "confusion_ab",
        "confusion_ba",
    ),
    *("top5", "group_accuracy", "calibration_error", "pgd_accuracy", "spoiled_accuracy", "attack_success"),
)
LARGEST = 20  # classes up to which the whole confusion matrix is printed


class Showing(Deaf):
    """Shows how far the training of a subject is."""

    def __init__(self, show: Show) -> None:
        self.show = show

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Passes it on."""
        self.show.progress(phase, step, steps, loss)


def examined(target: Target, seed: int, shared: Shared, show: Show) -> CellResult:
    """Returns the subject's exams.

    A file that a repair here wrote is asked about the same pair of classes as its record.
    """
    show.begin(f"{target.name}: loading", 1, 1)
    case = Case(target.data, target.model, "noop", seed)
    spec = cell_spec(shared, case, Chosen({}, {}), dataset=target.dataset, brought=target.brought)
    return run_cell(spec, cache=cache(), events=Showing(show))


def scores_table(results: Sequence[CellResult]) -> Table:
    """Returns a row per metric, a column per model."""
    records = [r.record for r in results]
    names = [n for n in OF_ONE if any(n in r.before for r in records)]
    rows = tuple(
        Row(
            (METRICS[n].title,),
            tuple(Entry(f"{r.before[n]:.4f}" if n in r.before else "missing") for r in records),
        )
        for n in names
    )
    headings = tuple(Heading("", f"{r.subject['name']} s{r.case.seed}") for r in records)
    first = records[0]
    notes = tuple(dict.fromkeys(note for r in records for note in r.notes))
    where = first.provenance
    images = f"{where['n']['test']:,} test images ({first.subject['split']['over']})"
    claim = f"Claim: {images}; profile {where['profile']}; trained on: {first.subject['trained_on']}."
    return Table("testonly", "Test, no repair", ("Metric",), headings, rows, notes, (claim,))


def confusion_lines(result: CellResult) -> Iterator[str]:
    """Which classes are confused most, and for few classes the whole matrix."""
    classes, pair, name = (
        json.loads(result.files[CLASSES]),
        result.record.subject["pair"],
        result.record.subject["name"],
    )
    if pair is None:
        yield f"{name}: no two classes are confused on validation of seed 0."
    else:
        yield f"{name}: confusion (a, b) is of {classes[pair[0]]} (a) and {classes[pair[1]]} (b)."
    if len(classes) <= LARGEST:
        matrix = np.load(io.BytesIO(result.files[PREDICTIONS]))["confusion_before"].tolist()
        width = max(len(str(n)) for row in matrix for n in row) + 1
        yield "Test images, true class in rows, predicted class in columns:"
        for label, row in zip(classes, matrix, strict=True):
            yield f"  {label[:12]:<12}" + "".join(f"{n:>{width}}" for n in row)
