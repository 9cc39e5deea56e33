"""robustness: satisfaction of DL2's RobustnessT over fixed pairs of test images, under its own name.

||x - x'||_2 < eps1  =>  KL(p(x) || p(x')) < eps2. A pair that is not close satisfies it vacuously;
`close_pairs` says how many are close.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def robustness(before: Exams, after: Exams) -> float | Missing:
    """It is the share of 10,000 fixed pairs of test images that are not close (distance at least
    eps1) or whose KL divergence is below eps2.

    Missing if the test split has fewer than two images.
    """
    pairs = after.pairs
    if not len(pairs.i):
        return Missing("no pairs of test images")
    log_p = after.test.logits.double().log_softmax(1)
    p, q = log_p[pairs.i], log_p[pairs.j]
    divergence = (p.exp() * (p - q)).sum(1)
    return float((~pairs.close | (divergence < pairs.constants.eps2)).double().mean())


def close_pairs(before: Exams, after: Exams) -> float | Missing:
    """It is the share of these pairs that are close; the others satisfy `robustness` vacuously.

    Missing if the test split has fewer than two images.
    """
    return (
        float(after.pairs.close.double().mean()) if len(after.pairs.i) else Missing("no pairs of test images")
    )
