"""hesitation: share of test images whose largest probability is below one half, to show a metric in
a package of its own.
"""

from airepair.evaluation.exams import Exams
from airepair.metrics import Entry, Missing

ENTRY = Entry(
    "airepair_bias.hesitation:hesitation", "hesitation", "share", "lower", "docs/adding-a-metric.md"
)


def hesitation(before: Exams, after: Exams) -> float | Missing:
    """Share of test images with no probability of .5 or more."""
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float((after.test.probabilities.amax(1) < 0.5).double().mean())
