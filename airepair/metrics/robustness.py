"""robustness: satisfaction of DL2's RobustnessT over fixed pairs of test images, under its own name.

||x - x'||_2 < eps1  =>  KL(p(x) || p(x')) < eps2. A pair that is not close satisfies it vacuously;
`close_pairs` says how many are close.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def robustness(before: Exams, after: Exams) -> float | Missing:
    """Share of the pairs that are not close or whose divergence is below eps2."""
    pairs = after.pairs
    if not len(pairs.i):
        return Missing("no pairs of test images")
    log_p = after.test.logits.double().log_softmax(1)
    p, q = log_p[pairs.i], log_p[pairs.j]
    divergence = (p.exp() * (p - q)).sum(1)
    return float((~pairs.close | (divergence < pairs.constants.eps2)).double().mean())


def close_pairs(before: Exams, after: Exams) -> float | Missing:
    """Share of the pairs that are close: what the robustness score is about."""
    return (
        float(after.pairs.close.double().mean()) if len(after.pairs.i) else Missing("no pairs of test images")
    )
