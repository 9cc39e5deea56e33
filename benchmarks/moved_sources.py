"""Keeps airepair/records/moved_sources.toml: `python -m benchmarks.moved_sources CHECKOUT [--changed A,B]`.

Code that is moved or tidied gives the same numbers (tests/golden/portable.json says whether), but
another digest of a method's source, and records of the old one would not resume. CHECKOUT is a
checkout of the commit that made them: its digests are mapped to today's, for every method but those
that have changed since.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from airepair.host.atomic import write_atomically

TABLE = Path(__file__).parents[1] / "airepair" / "records" / "moved_sources.toml"
ROW = re.compile(r'(\w{64}) = "(\w{64})"  # (\w+)')
DIGESTS = """
import json
from airepair.methods import METHODS
try:
    from airepair.host.source_code import source_digest
except ImportError:  # an older checkout
    from airepair.records.source_code import source_digest
print(json.dumps({name: source_digest(METHODS.get(name)()) for name in METHODS.builtin}))
"""


def digests(checkout: Path) -> dict[str, str]:
    """Method -> digest of its source in that checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], cwd=checkout, env=environment, capture_output=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def joined(table: str, old: Mapping[str, str], now: Mapping[str, str], changed: Sequence[str]) -> str:
    """The table with today's digests as values, and a row for each old digest that it lacked.

    The rows of a method that has changed stay: its records are of another code.
    """
    found = {key: (value if name in changed else now[name], name) for key, value, name in ROW.findall(table)}
    for name, digest in old.items():
        if name in now and name not in changed:
            found.setdefault(digest, (now[name], name))
    rows = [f'{key} = "{value}"  # {name}' for key, (value, name) in found.items() if key != value]
    return "\n".join([*(line for line in table.splitlines() if line.startswith("#")), "", *rows]) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Rewrites the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.moved_sources", description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of the commit that made the records")
    parser.add_argument("--changed", default="", metavar="A,B", help="methods whose numbers are others now")
    given = parser.parse_args(words)
    old, now = digests(given.checkout.absolute()), digests(TABLE.parents[2])
    changed = [name for name in given.changed.split(",") if name]
    text = joined(TABLE.read_text(encoding="utf-8"), old, now, changed)
    write_atomically(TABLE, text.encode())


if __name__ == "__main__":
    main()
