"""Every built-in method keeps the contract (tests/testing/test_contract.py shows that the suite
notices each way of breaking it).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airepair.methods import METHODS
from airepair.testing.bench import Bench
from airepair.testing.conformance import MethodConformance
from airepair.testing.declarations import changes

# Small-budget settings, so that the whole suite takes a minute: the contract does not depend on how
# long a method trains.
OPTIONS: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 2},
    "interpolate": {"epochs": 2, "lr": 0.01, "steps": 4},
    "apricot": {"submodels": 4, "submodel_epochs": 4, "further_epochs": 1, "rate": 0.05},
    "dl2": {"epochs": 3, "lr": 0.001},
    "best": {"candidates": "random,finetune@epochs=2"},
    "arachne": {"population": 16, "generations": 8},
    "care": {"particles": 5, "iterations": 4},
    "editable": {"group": 4, "lr": 0.003},
    "counterexample": {"samples": 100, "rounds": 1, "epochs": 2, "keep": 15},
    "irepair": {"iterations": 20},
    "aprnn": {"points": 5},
    "deeprepair": {"epoch": 3, "lr": 0.02},
    "deeprepair_style": {"corruption": "fog4", "epochs": 2},
    "deepcorrect": {"distortion": "noise", "epochs": 2, "sample": 40, "draws": 1},
}


def suite(name: str) -> type[MethodConformance]:
    """The conformance class of a built-in method, with those of its short options that it has."""
    method = METHODS.get(name)
    unknown = set(OPTIONS.get(name, {})) - {f.name for f in dataclasses.fields(method)}
    assert not unknown, f"OPTIONS[{name!r}] names {sorted(unknown)}, which the method does not have"
    return type(
        f"Test{name.capitalize()}", (MethodConformance,), {"method": method, "options": OPTIONS.get(name, {})}
    )


_broken = METHODS.broken()


@pytest.mark.parametrize("name", METHODS.builtin)
def test_a_built_in_method_can_be_imported(name: str) -> None:
    """A method whose file does not import has no suite below: that is a failure, not a silence."""
    assert name not in _broken, _broken[name]


@pytest.mark.parametrize(
    "name", [n for n in METHODS.builtin if n not in _broken and METHODS.get(n).ablations]
)
def test_the_ablations_are_compared_with_a_change(name: str) -> None:
    """On one toy subject at least the method changes the network: beside no change the size of an
    ablation's would mean nothing.
    """
    benches = [
        Bench(METHODS.get(name), OPTIONS.get(name, {}), architecture) for architecture in ("mlp", "cnn")
    ]
    assert any(bench.first.refusal is None and changes(bench.first)[0] > 0 for bench in benches)


for _name in (n for n in METHODS.builtin if n not in _broken):
    globals()[f"Test{_name.capitalize()}"] = suite(_name)
