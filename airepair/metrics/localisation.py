"""localisation: how well the weights that a repair changed match those that were damaged.

Parameters only, no batch-norm statistics.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

NOWHERE = "no weights of the subject were damaged, or the repaired model has other weights"


def localisation_precision(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the changed weights that were damaged.

    Missing if no weights were damaged, the repaired model has other weights than the subject,
    or no weight was changed.
    """
    found = after.fault.overlap if after.fault else None
    if found is None:
        return Missing(NOWHERE)
    return found.both / found.changed if found.changed else Missing("no weight was changed")


def localisation_recall(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the damaged weights that were changed.

    Missing if no weights were damaged, or the repaired model has other weights than the
    subject.
    """
    found = after.fault.overlap if after.fault else None
    return found.both / found.damaged if found else Missing(NOWHERE)
