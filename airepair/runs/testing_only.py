"""`--testonly`: what the metrics say of one model, before or after a repair, with no repair. The same exams as in a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airepair.case import Case
from airepair.exam import confusion_matrix
from airepair.methods import build
from airepair.metrics import METRICS
from airepair.pipeline import prepare
from airepair.prepared import Prepared
from airepair.report.layout import Entry, Heading, Row, Table
from airepair.runs.show import Show
from airepair.runs.targets import Place, Target
from airepair.subjects.brought import asked

# The metrics that say something of one model; the others compare two.
OF_ONE = (
    *("accuracy", "constraint", "constraint_tempered", "robustness", "similarity", "confusion", "confusion_ab", "confusion_ba"),
    *("top5", "group_accuracy", "calibration_error", "pgd_accuracy", "spoiled_accuracy", "attack_success"),
)
LARGEST = 20  # classes up to which the whole confusion matrix is printed


def examined(target: Target, seed: int, place: Place, show: Show, *, failing: str | None, pgd: bool) -> Prepared:
    """The subject's exams. A file that a repair here wrote is asked about the same pair of classes as its record."""
    show.begin(f"{target.name}: loading", 1, 1)
    subject, opened = target.load(seed, place, show.progress)
    pair = opened.facts.get("pair") if opened else None
    same = (int(pair[0]), int(pair[1])) if isinstance(pair, list) and len(pair) == 2 else None
    dataset = target.dataset_of(subject)
    wrong, _ = asked(subject, failing, None)
    case = Case(dataset, target.model, "noop", seed)
    return prepare(case, subject, build("noop", {}), profile=place.profile(target.dataset), failing=wrong, pair=same, pgd=pgd)


def scores_table(prepared: Sequence[Prepared]) -> Table:
    """A row a metric, a column a model."""
    names = [n for n in OF_ONE if any(n in p.scores for p in prepared)]
    rows = tuple(
        Row((METRICS[n].title,), tuple(Entry(f"{p.scores[n]:.4f}" if n in p.scores else "missing") for p in prepared)) for n in names
    )
    headings = tuple(Heading("", f"{p.subject.name} s{p.case.seed}") for p in prepared)
    first = prepared[0]
    notes = tuple(dict.fromkeys(note for p in prepared for note in p.subject.dataset.notes))
    claim = f"Claim: {len(first.before.test.y):,} test images; profile {first.profile}; trained on: {first.subject.trained_on}."
    return Table("testonly", "Test, no repair", ("Metric",), headings, rows, notes, (claim,))


def confusion_lines(ready: Prepared) -> Iterator[str]:
    """Which classes are confused most, and for few classes the whole matrix."""
    classes, pair = ready.subject.dataset.classes, ready.before.pair
    if pair is None:
        yield f"{ready.subject.name}: no two classes are confused on validation of seed 0."
    else:
        yield f"{ready.subject.name}: confusion (a, b) is of {classes[pair[0]]} (a) and {classes[pair[1]]} (b)."
    if len(classes) <= LARGEST:
        matrix = confusion_matrix(ready.before.test, len(classes)).tolist()
        width = max(len(str(n)) for row in matrix for n in row) + 1
        yield "Test images, true class in rows, predicted class in columns:"
        for name, row in zip(classes, matrix, strict=True):
            yield f"  {name[:12]:<12}" + "".join(f"{n:>{width}}" for n in row)
