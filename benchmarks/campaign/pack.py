"""What of a campaign's state goes along to the next machine: all that is small, what cannot be made
again first, within a limit.

Records, tables, measurements and logs; then baselines and half-trained ones; then repaired weights;
the smaller file first in each. Submodels and compiled kernels stay behind: they are large, and the
next machine makes them again in seconds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .chunks import split

BEHIND = ("cache/submodels", "compiled")


def chosen(state: Path, most: int) -> tuple[list[Path], list[Path]]:
    """The files that go along, at most `most` bytes together, and those that are too large for that
    (paths within `state`).
    """
    inside = sorted(p.relative_to(state) for p in state.rglob("*") if p.is_file() and p.suffix != ".lock")
    rest = [p for p in inside if not p.as_posix().startswith(BEHIND)]
    rest.sort(key=lambda p: (_rank(p), (state / p).stat().st_size, p))
    along, left, total = [], [], 0
    for path in rest:
        size = (
            state / path
        ).stat().st_size + 1024  # a header of the archive, and what fills up its last block
        if total + size <= most:
            along.append(path)
            total += size
        else:
            left.append(path)
    return along, left


def _rank(path: Path) -> int:
    if path.parts[0] == "cache":
        return 1
    return 2 if path.suffix == ".safetensors" else 0


def packed(state: Path, out: Path, piece: int, most: int) -> tuple[Path, list[Path]]:
    """Pieces of at most `piece` bytes in the folder `out` (made anew); their list, and what was
    left behind for its size.
    """
    along, left = chosen(state, most)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out) as work:
        copy = Path(work) / state.name
        for path in along:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(state / path, copy / path)
            except OSError:
                shutil.copy2(state / path, copy / path)
        copy.mkdir(exist_ok=True)
        return split(copy, out, piece), left
