"""One table of options: what pytest, the commands and config.toml accept comes from airepair/cli/flags.py."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

from _pytest.config.argparsing import Parser

import fixtures.options
from airepair.cli.flags import GROUPS, TABLE, flags_of
from airepair.cli.main import COMMANDS, parser_of
from airepair.cli.repair.config import KEPT, Config

ROOT = Path(__file__).parents[2]
ROWS = {flag.name: flag for flag in TABLE}


def test_each_option_is_declared_once() -> None:
    """A name stands in one row, and every row has a door and a group that its door knows."""
    assert [name for name, count in Counter(flag.name for flag in TABLE).items() if count > 1] == []
    assert all(flag.doors for flag in TABLE)
    assert {flag.doors["bench"].group for flag in flags_of("bench")} == set(GROUPS)


def test_pytest_has_the_options_of_the_table() -> None:
    """With the row's help, and with no default beside the row's."""
    parser = Parser(_ispytest=True)
    fixtures.options.pytest_addoption(parser)
    options: dict[str, Any] = {o.names()[0]: o.attrs() for group in parser._groups for o in group.options}
    assert list(options) == [
        f.name for name in GROUPS for f in flags_of("bench") if f.doors["bench"].group == name
    ]
    for name, attrs in options.items():
        about = ROWS[name].about("bench")
        assert attrs["dest"] == f"airepair_{ROWS[name].key}"
        assert attrs["help"] == about["help"]
        default = about.get("default", False if about.get("action") == "store_true" else None)
        assert attrs.get("default") == default


def test_no_plugin_declares_an_option_of_its_own() -> None:
    """`addoption` is called in fixtures/options.py alone."""
    callers = {
        str(file.relative_to(ROOT))
        for folder in ("fixtures", "reports", "airepair/suite")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "addoption"
    }
    assert callers == {"fixtures/options.py"}


def test_an_option_of_two_doors_is_a_row() -> None:
    """A command's option that pytest or another command has as well comes from the table."""
    doors: dict[str, list[str]] = {}
    for command in COMMANDS:
        for action in parser_of(command)._actions:
            name = next((s for s in action.option_strings if s.startswith("--") and s != "--help"), None)
            if name is None:
                continue
            doors.setdefault(name, []).append(command)
            if name in ROWS:
                row: Any = ROWS[name]
                assert command in row.doors, (command, name)
                assert action.help == row.about(command)["help"], (command, name)
                assert action.default in (row.about(command).get("default"), False, None), (command, name)
    assert {name for name, commands in doors.items() if len(commands) > 1} - ROWS.keys() == set()
    assert {flag.name for door in doors for flag in flags_of("repair")} <= doors.keys()


def test_config_toml_keeps_the_options_of_a_repair() -> None:
    """All but those that say where the run goes, or that stand in it as the methods' options."""
    left_out = {f.key for f in flags_of("repair")} - KEPT.keys()
    assert left_out == {"additional_param", "assignments", "testonly", "input_logs", "config", "out"}
    assert set(Config.__struct_fields__) == {*KEPT, "options", "origins"}
