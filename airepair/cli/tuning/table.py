"""tuned.toml: rows in the form of settings.toml, one for each (data set, model, method) whose
trials are all done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from airepair.host.atomic import write_atomically
from airepair.settings import read_table

HEAD = (
    "# Options chosen on validation by `airepair tune`; read by `--auto` after settings.toml. "
    "Each origin says commit, device and n.\n"
)
Row = Mapping[str, Any]
KEY = ("dataset", "model", "method", "profile")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a table; none if there is no file."""
    return list(read_table(path).get("setting", [])) if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Returns the old rows with the new ones in their places, sorted."""
    rows = {tuple(str(row.get(k, "*")) for k in KEY): row for row in (*old, *new)}
    return [rows[key] for key in sorted(rows)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes the table so that a reader sees the old one or the new one."""
    write_atomically(path, (HEAD + "\n" + tomli_w.dumps({"setting": list(map(_plain, rows))})).encode())


def _plain(row: Row) -> dict[str, Any]:
    """The row's fields in their order; an option that is None is the default, which a table need not say."""
    options = {name: value for name, value in row["options"].items() if value is not None}
    return {**{key: str(row[key]) for key in (*KEY, "origin") if key in row}, "options": options}
