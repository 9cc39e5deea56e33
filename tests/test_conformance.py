"""Every built-in method keeps the contract (tests/test_contract.py shows that the suite notices each way of breaking it)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airepair.methods import METHODS
from airepair.testing.conformance import MethodConformance

# Small-budget settings, so that the whole suite takes a minute: the contract does not depend on how long a method trains.
OPTIONS: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 2},
    "apricot": {"submodels": 3, "submodel_epochs": 2, "further_epochs": 1},
    "dl2": {"epochs": 2},
    "best": {"candidates": "random,finetune@epochs=2"},
    "arachne": {"population": 8, "generations": 4},
    "care": {"particles": 5, "iterations": 4},
    "editable": {"steps": 3},
    "counterexample": {"samples": 100, "rounds": 1, "epochs": 2},
    "irepair": {"iterations": 20},
    "aprnn": {"points": 5},
    "deeprepair": {"epoch": 2},
    "deeprepair_style": {"corruption": "fog4", "epochs": 2},
    "deepcorrect": {"distortion": "noise", "epochs": 2, "sample": 40, "draws": 1},
}


def suite(name: str) -> type[MethodConformance]:
    """The conformance class of a built-in method, with those of its short options that it has."""
    method = METHODS.get(name)
    unknown = set(OPTIONS.get(name, {})) - {f.name for f in dataclasses.fields(method)}
    assert not unknown, f"OPTIONS[{name!r}] names {sorted(unknown)}, which the method does not have"
    return type(f"Test{name.capitalize()}", (MethodConformance,), {"method": method, "options": OPTIONS.get(name, {})})


_broken = METHODS.broken()


@pytest.mark.parametrize("name", METHODS.builtin)
def test_a_built_in_method_can_be_imported(name: str) -> None:
    """A method whose file does not import has no suite below: that is a failure, not a silence."""
    assert name not in _broken, _broken[name]


for _name in (n for n in METHODS.builtin if n not in _broken):
    globals()[f"Test{_name.capitalize()}"] = suite(_name)
