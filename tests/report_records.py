"""Hand-made records for the report tests: missing, unsupported and crashed cells, one and three
seeds, odd characters, duplicates.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.records import Phase, Record
from airepair.records.right_answers import right, tested

SCOPES = {"digits": "splits of these 1,797 images"}
CATEGORY = {
    "noop": "control",
    "finetune": "control",
    "random": "control",
    "apricot": "direct weight modification",
    "dl2": "architecture extension",
}
BEFORE = {
    "accuracy": 0.81,
    "constraint": 0.63,
    "constraint_tempered": 0.30,
    "robustness": 0.9,
    "close_pairs": 0.044,
    "confusion_ab": 0.7,
    "confusion_ba": 0.6,
    "confusion": 0.65,
    "repair_rate": 0.0,
    "generalisation": 0.0,
    "break_rate": 0.0,
    "net_change": 0.0,
    "drawdown": 0.0,
    "worst_class_loss": 0.0,
}
ODD = 'no batch norm | 100 % of a_b & <b>"x"</b> {#1} ~ ^ \\ $x$ `y` *z* → ü\n\x1b[31mred\x1b[0m'


def record(
    case: str, status: Any = "repaired", gains: dict[str, float] | None = None, **fields: Any
) -> Record:
    """A record whose scores after are BEFORE plus `gains`."""
    parsed = Case.parse(case)
    after = {k: v + (gains or {}).get(k, 0.0) for k, v in BEFORE.items()} if status == "repaired" else {}
    known: dict[str, Any] = {
        "category": CATEGORY.get(parsed.base_method, "retraining"),
        "before": BEFORE,
        "after": after,
        "budget": {"backward": 60_000 if parsed.base_method != "noop" else 0, "forward": 1_000},
        "cost": {"seconds": 12.5, "peak_bytes": 50 * 2**20, "memory_source": "VmHWM"}
        if status == "repaired"
        else {},
        "subject": {
            "trained_on": f"split of seed {parsed.seed}",
            "weights": f"w{parsed.seed}",
            "split": {"seed": parsed.seed, "over": SCOPES.get(parsed.dataset.partition("+")[0], "")},
        },
        "provenance": {
            "benchmark_version": BENCHMARK_VERSION,
            "commit": "0123456789abcdef",
            "dirty": False,
            "versions": {"airepair": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
            "device": "CPU (Test 1 GHz)",
            "device_kind": "cpu",
            "threads": 1,
            "profile": "smoke",
            "n": {"train": 600, "test": 497},
        },
    }
    return Record(parsed, status, **(known | fields))


def answered(record: Record, index: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> Record:
    """The record with its right answers on test images of those indices; its accuracies are theirs."""
    scores = {"before": dict(record.before), "after": dict(record.after)}
    for name, bits in (("before", before), ("after", after)):
        scores[name]["accuracy"] = float(np.mean(bits))
    held = {"tested": tested(index), "before": right(before, index), "after": right(after, index)}
    return dataclasses.replace(record, **scores, right=held)


def phases(images: tuple[int, ...], gain: float, name: str = "1/{} of the budget") -> tuple[Phase, ...]:
    """Kept states at those numbers of training images, each a little better than the last."""
    return tuple(
        Phase(
            name.format(2 ** (len(images) - i)),
            n,
            n / 1000,
            BEFORE | {"accuracy": 0.81 + gain * (i + 1), "validation_accuracy": 0.8 + gain * i},
        )
        for i, n in enumerate(images)
    )


def example() -> list[Record]:
    """Two digits columns and the paper's MNIST one; some cells are absent, unsupported, crashed or
    doubled.
    """
    found = []
    for seed in (0, 1, 2):
        step = 0.01 * seed
        found += [
            record(f"digits-cnn-noop-s{seed}"),
            record(
                f"digits-cnn-finetune-s{seed}",
                gains={
                    "accuracy": 0.04 + step,
                    "constraint": -0.02,
                    "generalisation": 0.4,
                    "net_change": 0.04 + step,
                    "repair_rate": 0.9,
                },
                phases=phases((5_000, 20_000, 40_000), 0.01),
            ),
            record(
                f"digits-cnn-apricot-s{seed}",
                gains={
                    "accuracy": 0.05 - step,
                    "constraint": 0.10,
                    "constraint_tempered": -0.01,
                    "net_change": 0.05 - step,
                    "generalisation": 0.5,
                },
                phases=(Phase("adjustment", 25_000, 4.0, BEFORE | {"accuracy": 0.812}),),
            ),
            record(f"digits-cnn-random-s{seed}", gains={"accuracy": -0.02, "net_change": -0.02}),
            record(f"digits-cnn-deeprepair-s{seed}", "unsupported", reason=ODD),
        ]
    found += [
        record(
            "digits-cnn-dl2-s0", gains={"accuracy": -0.00001, "constraint": 0.12, "constraint_tempered": 0.05}
        ),
        record("digits-cnn-dl2-s1", "crashed", reason="the worker died (signal 9)"),
        record("digits-cnn-dl2-s2", "timeout", reason="more than 60 s"),
        record("digits-fc-noop-s0"),
        record("digits-fc-finetune-s0", "out of memory", reason="8 GiB wanted"),
        record("mnist-cnn-noop-s0", notes=("97 of 60,000 images not official",)),
        record(
            "mnist-cnn-dl2-s0",
            gains={"accuracy": 0.006, "constraint": 0.02},
            notes=("97 of 60,000 images not official", "a method's own note"),
        ),
        record(
            "mnist-cnn-dl2-s0",
            gains={"accuracy": 0.004, "constraint": 0.02},
            notes=("97 of 60,000 images not official",),
        ),
    ]
    without = dataclasses.replace(
        found[-2],
        case=Case.parse("mnist-cnn-finetune-s0"),
        category="control",
        missing={"constraint": "no groups"},
    )
    return [
        *found,
        dataclasses.replace(without, after={k: v for k, v in without.after.items() if k != "constraint"}),
    ]
