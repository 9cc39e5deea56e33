"""Faults with a known cause, one file each: what is done to a subject, and which test inputs that
spoils. A new one is its file and its line here.

A registered thing is a subclass of `airepair.faults.fault.Fault`; other packages use the entry
point `airepair.faults`. A case names its fault behind the architecture, with a severity if it is
not the fault's own: `cnn+imbalanced`, `resnet18+backdoor0.02`; `cnn+clean` is healthy. This page
loads without torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airepair.corruptions import parse as parse_corruption
from airepair.errors import UsageError
from airepair.options import configure
from airepair.registry import Registry

if TYPE_CHECKING:
    from airepair.faults.fault import Fault

FAULTS = Registry(
    "fault",
    "airepair.faults",
    {
        "undertrained": "airepair.faults.undertrained:Undertrained",
        "imbalanced": "airepair.faults.imbalanced:Imbalanced",
        "missing": "airepair.faults.missing:Missing",
        "mislabelled": "airepair.faults.mislabelled:Mislabelled",
        "backdoor": "airepair.faults.backdoor:Backdoor",
        "environment": "airepair.faults.environment:Environment",
        "rotated": "airepair.faults.rotated:Rotated",
        "damaged": "airepair.faults.damaged:Damaged",
        "bitflips": "airepair.faults.bitflips:Bitflips",
    },
)
# behind a model's name: the subject without any fault, the one that its data set's recipe has
# included
HEALTHY = "clean"
_TEXT = re.compile(r"(?P<name>[a-z_]+)(?P<severity>[\d.]*)")


def parse(text: str) -> Fault:
    """Returns `imbalanced` or `imbalanced0.05` as the fault; UsageError for an unknown name, a
    severity that is none, and two faults at once.
    """
    if "+" in text:
        raise UsageError(
            f"{text!r} is more than one fault; accepted: one, because two causes cannot be separated"
        )
    found = _TEXT.fullmatch(text)
    name, severity = (found["name"], found["severity"]) if found else (text, "")
    cls: type[Fault] = FAULTS.get(name)
    return configure(cls, {"severity": severity} if severity else {}, f"fault {name}")


def of_case(dataset: str, model: str) -> Fault | None:
    """Returns the fault that a case's names carry: an environment behind the data set
    (`digits+fog3`) or a fault behind the model.

    None without one, and for a healthy subject (`fc+clean`).
    """
    (_, _, corruption), (_, _, fault) = dataset.partition("+"), model.partition("+")
    if corruption and fault:
        raise UsageError(
            f"{dataset}-{model} has an environment and a fault; accepted: one, "
            f"because two causes cannot be separated"
        )
    if corruption:
        found = parse_corruption(corruption)
        made: Fault = FAULTS.get("environment")(severity=found.severity, corruption=found.name)
        return made
    return parse(fault) if fault and fault != HEALTHY else None
