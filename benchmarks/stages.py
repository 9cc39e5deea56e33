"""A pytest plugin that writes how long each stage of a cell took into `stages.log` of the run's
folder: `-p benchmarks.stages`.

The stages are the fixtures of fixtures/repair.py. pytest sets up what a fixture asks for before it
calls the hook for that fixture, so no second is counted twice. Each process appends whole lines to
one file. benchmarks/overhead.py sums them up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Any

import msgspec
import psutil
import pytest

from airepair.suite.session import TRAINING, out_folder

FILE = "stages.log"
STARTED = "started"  # the stage of a process from its start until it knows its cells
TRAINED = "trained"  # the part of `subject` in which a baseline was trained
STAGES = ("spec", "subject", "prepared", "repaired", "result")


class Span(msgspec.Struct, frozen=True):
    """One stage of one cell in one process; `start` is in seconds since the epoch."""

    process: int
    cell: str
    stage: str
    start: float
    seconds: float


def pytest_collection_finish(session: pytest.Session) -> None:
    """A worker, or the only process, has loaded what it needs; xdist's controller runs no cell."""
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        born = psutil.Process().create_time()
        _note(session.config, "", STARTED, born, time.time() - born)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, object, object]:
    """Times the stages, also one that fails or skips its cell."""
    if fixturedef.argname not in STAGES:
        return (yield)
    start = time.time()
    try:
        return (yield)
    finally:
        _note(request.config, request.node.name, fixturedef.argname, start, time.time() - start)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """How long the cell's subject was trained, if the cache had none."""
    for name, seconds in item.user_properties:
        if name == TRAINING:
            _note(item.config, item.name, TRAINED, time.time(), float(seconds))  # type: ignore[arg-type]


def _note(config: pytest.Config, cell: str, stage: str, start: float, seconds: float) -> None:
    folder = out_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab") as file:
        file.write(msgspec.json.encode(Span(os.getpid(), cell, stage, start, seconds)) + b"\n")
