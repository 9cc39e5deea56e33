"""What a file's network may end in behind its logits: a softmax, a log-softmax. Repair methods work on the logits; the file keeps its end."""

from __future__ import annotations

import numpy as np

from airepair.models.formats.ir import Array

HEADS = {"softmax": "softmax", "log_softmax": "log-softmax"}  # and "" for none


def headed(logits: Array, head: str) -> Array:
    """What the file makes of logits N x K, in double precision."""
    if not head:
        return logits
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    found: Array = np.exp(log) if head == "softmax" else log
    return found


def head_note(head: str) -> str:
    """For the record."""
    return f"the final {HEADS[head]} stays in the file; the network, and what it is converted to, answers with logits"
