"""Whether a cell that was run again reproduces the reported one. Free of torch.

In portable arithmetic the bits must be equal. In native arithmetic another processor's last bits
may train another model: then the right answers before and after the repair must be as like as two
draws of one model (McNemar's exact test on the test images, p of at least LEAST).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from airepair.cli.verification.mark import Repeated
from airepair.records import Record
from airepair.records.fingerprint import differences, of
from airepair.records.right_answers import unpack
from airepair.report.statistics import mcnemar

LEAST = 0.001


def judged(reported: Record, again: Record | None) -> Repeated:
    """Compares the two; a cell that could not run here says nothing about its record."""
    if again is None:
        return Repeated(reported.key, "not tried", "the process ended while it ran this cell")
    if again.status in ("skipped", "out of memory") or (again.status == "failed" and not again.before):
        return Repeated(reported.key, "not tried", f"{again.status}: {again.reason}")
    if again.status != reported.status:
        return Repeated(
            reported.key,
            "contradicted",
            f"reported {reported.status}, here {again.status} ({again.reason or 'no reason'})",
        )
    other = differences(of(reported), of(again), ("options", "data"))
    if other:
        return Repeated(reported.key, "contradicted", "; ".join(other))
    bits = _bits(reported, again)
    if not bits:
        return Repeated(reported.key, "reproduced", "bit for bit")
    if _portable(reported) and _portable(again):
        return Repeated(
            reported.key, "contradicted", f"in portable arithmetic, where bits must be equal: {bits}"
        )
    wrong = list(_unlike(reported, again))
    if wrong:
        return Repeated(reported.key, "contradicted", "; ".join(wrong))
    return Repeated(
        reported.key, "reproduced", f"within the noise of its test images; not bit for bit ({bits})"
    )


def _bits(reported: Record, again: Record) -> str:
    """What differs in weights and scores; "" if nothing does. A digest that one of them lacks differs."""
    found = []
    for name in ("weights", "repaired_weights"):
        first, second = reported.subject.get(name), again.subject.get(name)
        if first != second:
            texts = ("missing" if v is None else str(v)[:12] for v in (first, second))
            found.append(f"{name.replace('_', ' ')} {' and '.join(texts)}")
    for when in ("before", "after"):
        theirs, here = getattr(reported, when), getattr(again, when)
        differ = [name for name, value in theirs.items() if name in here and here[name] != value]
        found += [f"{when} {name} {theirs[name]:.6g} and {here[name]:.6g}" for name in differ[:2]]
    return ", ".join(found)


def _portable(record: Record) -> bool:
    return record.provenance.get("arithmetic") == "portable"


def _unlike(reported: Record, again: Record) -> Iterator[str]:
    """Where the two models are less alike than the test images can explain."""
    for when in ("before", "after"):
        theirs, here = reported.right.get(when), again.right.get(when)
        first, second = getattr(reported, when).get("accuracy"), getattr(again, when).get("accuracy")
        if first is None or second is None:
            continue
        words = f"accuracy {when} {100 * first:.2f} % reported, {100 * second:.2f} % here"
        if theirs and here and reported.right["tested"] == again.right["tested"]:
            one, two = unpack(theirs), unpack(here)
            p = mcnemar(int((one & ~two).sum()), int((two & ~one).sum()))
            if p < LEAST:
                yield f"{words} (McNemar's p = {p:.1g})"
        elif abs(first - second) > _noise(first, reported.provenance.get("n", {}).get("test", 1)):
            yield f"{words}, more than the noise of its test images"


def _noise(accuracy: float, images: int) -> float:
    """Of a difference between two models on so many images, of whose answers nothing else is known:
    3.3 standard errors (p = LEAST).
    """
    return float(3.3 * np.sqrt(2 * max(accuracy * (1 - accuracy), 1 / images) / images))
