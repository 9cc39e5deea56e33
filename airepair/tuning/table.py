"""tuned.toml: rows in the form of settings.toml, one for each (data set, model, method) whose trials are all done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airepair.settings import read_table

HEAD = "# Options chosen on validation by `airepair tune`; read by `--auto` after settings.toml. Each origin says commit, device and n.\n"
Row = Mapping[str, Any]
KEY = ("dataset", "model", "method", "profile")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table; none if there is no file."""
    return list(read_table(path).get("setting", [])) if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The old rows with the new ones in their places, sorted."""
    rows = {tuple(str(row.get(k, "*")) for k in KEY): row for row in (*old, *new)}
    return [rows[key] for key in sorted(rows)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes the table so that a reader sees the old one or the new one."""
    from airepair.host.atomic import write_atomically

    write_atomically(path, (HEAD + "".join(map(_text, rows))).encode())


def _text(row: Row) -> str:
    lines = [f"{key} = {json.dumps(str(row[key]))}" for key in (*KEY, "origin") if key in row]
    options = ", ".join(f"{name} = {_value(value)}" for name, value in row["options"].items() if value is not None)
    return "\n[[setting]]\n" + "\n".join(lines) + f"\noptions = {{ {options} }}\n"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)
