"""What a file's network may end in behind its logits: a softmax, a log-softmax.

Repair methods work on the logits; the file keeps its end.
"""

from __future__ import annotations

import numpy as np

from airepair.formats.mmdnn.ir import Array

HEADS = {"softmax": "softmax", "log_softmax": "log-softmax"}  # and "" for none
PROBED = 32  # inputs whose answers tell probabilities from logits
FEWEST = 8  # answers that tell anything: one row of logits may add up to 1 by chance
ROUNDING = 1e-3  # how far a sum of half-precision probabilities may be from 1


def headed(logits: Array, head: str) -> Array:
    """What the file makes of logits N x K, in double precision."""
    if not head:
        return logits
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    found: Array = np.exp(log) if head == "softmax" else log
    return found


def head_note(head: str) -> str:
    """Returns the sentence for the record."""
    return (
        f"the final {HEADS[head]} stays in the file; the network, and what it is converted to, "
        f"answers with logits"
    )


def head_in(answers: Array) -> str:
    """What answers N x K are: "softmax" where each row is a distribution, "log_softmax" where its
    exponentials are, else "".
    """
    if answers.ndim != 2 or answers.shape[1] < 2 or len(answers) < FEWEST or np.isnan(answers).any():
        return ""
    rows = answers.astype(np.float64)
    if rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() < ROUNDING:
        return "softmax"
    return (
        "log_softmax" if rows.max() <= ROUNDING and np.abs(np.exp(rows).sum(1) - 1).max() < ROUNDING else ""
    )
