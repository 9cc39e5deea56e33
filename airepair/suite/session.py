"""What fixtures and reports share: the selection, where results go, and how a record travels from a
worker to the controller. Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airepair.case import Case
from airepair.errors import UsageError
from airepair.settings import Profile, usual_profile
from airepair.suite.live.state import Teller

if TYPE_CHECKING:
    from airepair.subjects.user_model.input_spec import ModelSource

PROPERTY = "airepair_record"  # the user property of a test's report that holds the record's line
BENCHMARK = "airepair_benchmark"  # the one that holds what pytest-benchmark measured elsewhere
RECORDS = "records.jsonl"
TRAINING = "airepair_training"  # the user property of a cell whose subject was trained first: its seconds
CHANGED = "airepair_changed"  # the user property of a cell that runs again: what has changed since its record
RESUMED = "resumed: "  # how the reason begins for which a cell is skipped whose record stands
ELSEWHERE = (
    "elsewhere: "  # how the reason begins for which a cell is skipped that another run of the folder runs now
)


@dataclass(frozen=True)
class Selection:
    """It holds what the user asked for. `sets[method]` holds the combinations of options: (what
    differs, for the id; all of them).

    `brought`: model files by the name that they have in cases. `ablations`: whether their cells
    run; None: for digits. `named`: a profile was.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] | None
    profile: Profile
    sets: dict[str, list[tuple[str, dict[str, str]]]]
    explicit: bool
    by_profile: bool
    brought: dict[str, ModelSource] = field(default_factory=dict)
    ablations: bool | None = None
    named: bool = False


SELECTION = pytest.StashKey[Selection]()
TELLER = pytest.StashKey[Teller]()  # what this process says of its cell while it runs


def option(config: pytest.Config, dest: str) -> Any:
    """Returns what the user gave for one of our options."""
    return config.getoption(f"airepair_{dest}")


def out_folder(config: pytest.Config) -> Path:
    """Where records and reports go: `--out`, else reports/out in the folder where the command was given."""
    given = option(config, "out")
    return Path(given).absolute() if given else config.invocation_params.dir / "reports" / "out"


def profile_of(config: pytest.Config, dataset: str) -> str:
    """Returns the profile's name for a cell of that data set: the one that the user names, else the
    usual one.
    """
    cuda = config.stash[SELECTION].profile.name == usual_profile("", cuda=True)
    return option(config, "profile") or usual_profile(dataset, cuda=cuda)


def case_of(nodeid: str) -> Case | None:
    """Returns the case of a node id such as
    `benchmarks/test_repair.py::test_repair[digits-cnn-noop-s0]`; None if it is no cell.
    """
    _, bracket, text = nodeid.partition("test_repair[")
    try:
        return Case.parse(text.rstrip("]")) if bracket else None
    except UsageError:
        return None
