"""--isolate in the suite: which cells it is for, what their records say, and what stays as it was."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airepair.case import Case
from airepair.cli.bench import long_form, short_options
from airepair.records import read
from airepair.records.record import Record
from fixtures.isolation import isolates
from tests.suite.test_suite import SMALL, suite, suites, table

METHODS = "noop,random,tests.suicidal:Suicidal,tests.hostile_methods:Polite"


def config(isolate: bool | None = None, engine: str = "local", pdb: bool = False) -> Any:
    """A config that knows the options."""
    options = {"airepair_isolate": isolate, "airepair_engine": engine, "usepdb": pdb}
    return SimpleNamespace(getoption=options.__getitem__)


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("noop", False),
        ("apricot+dl2", False),
        ("finetune[tuned]", False),
        ("mine:Mine", True),
        ("apricot+mine:Mine", True),
        ("tool:arachne", True),
        ("of_another_package", True),
    ],
)
def test_plug_ins_and_tools_are_isolated_unless_the_user_says_otherwise(method: str, own: bool) -> None:
    """A debugger cannot look into a child; a cluster has processes of its own."""
    case = Case("digits", "fc", method, 0)
    assert isolates(config(), case) is own
    assert isolates(config(isolate=True), case) is True
    assert isolates(config(isolate=False), case) is False
    assert isolates(config(pdb=True), case) is False
    assert isolates(config(engine="ray"), case) is False


def test_an_installed_suite_has_the_negative_form_too() -> None:
    """`airepair bench --no-isolate` is the installed plugin's --no-airepair-isolate."""
    short = short_options()
    assert "--isolate" in short
    assert long_form("--no-isolate", short) == "--no-airepair-isolate"
    assert long_form("--isolate-memory=2", short) == "--airepair-isolate-memory=2"
    assert long_form("--no-header", short) == "--no-header"


def test_what_contradicts_itself_is_a_usage_error(tmp_path: Path) -> None:
    """One line with the value and what is accepted."""
    found = suites(
        tmp_path,
        [
            [*SMALL, "--isolate-memory", "0"],
            [*SMALL, "--isolate-output", "nan"],
            [*SMALL, "--isolate", "--engine", "ray"],
        ],
    )
    assert {done.returncode for done in found} == {4}
    texts = [" ".join((done.stdout + done.stderr).split()) for done in found]
    assert "--isolate-memory 0 is out of range; accepted: a number above 0" in texts[0]
    assert "--isolate-output nan is out of range; accepted: a number above 0" in texts[1]
    assert "--isolate with --engine ray: its cells run in processes of the cluster" in texts[2]


def scores(out: Path) -> dict[str, Any]:
    """What records say but times and costs."""
    found = {}
    for record in read([out])[0]:
        line = json.loads(record.to_json())
        del line["cost"], line["provenance"]["time"]
        found[record.key] = line | {"phases": [p | {"seconds": 0} for p in line["phases"]]}
    return found


def test_a_serial_run_survives_a_method_that_kills_its_process(tmp_path: Path) -> None:
    """Its cell is crashed, with the signal and the scores before; the others have their records."""
    words = [*SMALL, "--method", METHODS, "--seeds", "90"]
    result = suite(tmp_path, *words, "--benchmark-json", str(tmp_path / "b.json"), cache=tmp_path / "cache")
    assert result.returncode == 1, result.stdout + result.stderr
    records: dict[str, Record] = {r.case.base_method: r for r in read([tmp_path])[0]}
    crashed = records.pop("tests.suicidal:Suicidal")
    assert (crashed.status, crashed.reason) == ("crashed", "killed by SIGKILL")
    assert 0.5 < crashed.before["accuracy"] < 1
    assert {r.status for r in records.values()} == {"repaired"}
    assert len(records) == 3
    assert re.search(r"1 failed, 3 passed", result.stdout), result.stdout
    assert "crashed" in table(tmp_path)
    printed = tmp_path / "cells" / records["tests.hostile_methods:Polite"].key / "output.txt"
    assert printed.read_text() == "a word of the method's own\n"
    timed = json.loads((tmp_path / "b.json").read_text())["benchmarks"]
    assert {b["extra_info"]["status"] for b in timed} == {"repaired"}
    assert len(timed) == 3


@pytest.mark.slow
def test_all_cells_isolated_under_two_workers_give_the_records_of_a_plain_run(tmp_path: Path) -> None:
    """Every record but its times and costs; --resume keeps them."""
    words = [*SMALL, "--method", "noop,finetune,memit", "--seeds", "90,91", "-k", "not failing+"]
    for name, extra in (("plain", ["--no-isolate"]), ("isolated", ["--isolate", "-n", "2"])):
        done = suite(tmp_path / name, *words, *extra, cache=tmp_path / "cache")
        assert done.returncode == 0, done.stdout + done.stderr
    assert scores(tmp_path / "isolated") == scores(tmp_path / "plain")
    assert len(scores(tmp_path / "plain")) == 6
    again = suite(tmp_path / "isolated", *words, "--isolate", "--resume", cache=tmp_path / "cache")
    assert "6 skipped" in again.stdout
