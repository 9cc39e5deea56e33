"""Faults with a known cause, one file each: what is done to a subject's training, so that there is something to repair.

A registered thing is a frozen dataclass with `severity`, `seed` and `train(split, classes) -> Split`. This page loads without torch.
"""

from __future__ import annotations

from airepair.registry import Registry

FAULTS = Registry("fault", "airepair.faults", {"mislabelled": "airepair.faults.mislabelled:Mislabelled"})
