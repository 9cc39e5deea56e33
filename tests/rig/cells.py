"""Cells that need no network. behaviour.json beside this file says what the cell of a seed does;
others file their record.

sleep:SECONDS   waits first
kill            its process is killed in it
segfault        its process reads address 0
kill-after      its process is killed after its record was filed
remove          the folder of the results is removed, then its record is filed
fail            files a `failed` record
early-kill      its process is killed before it has scores
range           files a record whose accuracy is out of its range
silent          leaves neither a record nor a reason
"""

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from types import ModuleType

import pytest

from airepair.case import Case
from airepair.errors import one_line
from airepair.records import Record
from airepair.runner.cell import CellResult
from airepair.runner.storage import file_before, file_result
from airepair.suite.session import PROPERTY, out_folder
from fixtures.resume import keep_if_same

BEHAVIOUR = json.loads(Path(__file__).with_name("behaviour.json").read_text())
GRID = ModuleType("grid")
GRID.COLUMNS = [("digits", "fc")]
GRID.DEFAULT_DATASETS = ["digits"]
GRID.methods = lambda: ["noop"]
GRID.seeds = lambda *_: (0, 1)
GRID.in_profile = lambda *_: True


def test_repair(case: Case, request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> None:
    """Does what the behaviour says, and files the cell's record."""
    keep_if_same(case, dict, request.node)
    what, _, value = BEHAVIOUR.get(str(case.seed), "").partition(":")
    out = out_folder(pytestconfig)
    if what == "early-kill":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        file_before(out, case, {"accuracy": 0.5}, {})
    except OSError as error:
        pytest.fail(f"cannot write to {out}: {one_line(error)}", pytrace=False)
    with (out / "started").open("a") as file:
        file.write(f"{case} {os.getpid()}\n")
    if what == "sleep":
        end = time.monotonic() + float(value)
        while time.monotonic() < end:
            time.sleep(0.05)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "remove":
        out.rename(out.with_name("gone"))
    if what == "silent":
        return
    seed = case.seed
    status = "failed" if what == "fail" else "repaired"
    record = Record(
        case,
        status,
        "as asked" if what == "fail" else "",
        "control",
        before={"accuracy": 0.5},
        after={"accuracy": 1.5 if what == "range" else 0.5 + seed / 100},
    )
    request.node.user_properties.append((PROPERTY, record.to_json()))
    file_result(out, CellResult(record, {"log.txt": b"a line\n"}))
    if what == "kill-after":
        os.kill(os.getpid(), signal.SIGKILL)
