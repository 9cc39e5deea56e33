"""The mark of a folder of records: reported, reproduced or contradicted, with what it rests on.

It holds for these bytes of its records only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import airepair
from airepair.errors import UsageError
from airepair.host.atomic import write_atomically
from airepair.host.digest import of_files
from airepair.host.validation import checked

MARK = "verification.json"
Word = Literal["reported", "reproduced", "contradicted"]


@dataclass(frozen=True)
class Repeated:
    """It is one cell of the sample that was run again (judging.py): the word, and why."""

    key: str
    word: Literal["reproduced", "contradicted", "not tried"]
    why: str


@dataclass(frozen=True)
class Mark:
    """`sample` are the cells that were run again; `problems` what the records contradict without that."""

    word: Word
    records: int
    digest: str
    checked: str
    version: str
    sample: tuple[Repeated, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        tried = [r for r in self.sample if r.word != "not tried"]
        if self.word == "reproduced":
            return (
                f"reproduced: {len(tried)} of {self.records} cells, drawn at random, "
                f"were run again ({self.checked})"
            )
        if self.word == "contradicted":
            bad = sum(r.word == "contradicted" for r in tried)
            return (
                f"contradicted: {bad} of {len(tried)} cells that were run again, "
                f"{len(self.problems)} other problems ({self.checked})"
            )
        return f"reported: none of {self.records} cells was run again"


def marked(files: Iterable[Path], records: int, sample: Iterable[Repeated], problems: Iterable[str]) -> Mark:
    """Returns the mark that these findings give."""
    found, wrong = tuple(sample), tuple(problems)
    words = {r.word for r in found}
    word: Word = (
        "contradicted"
        if wrong or "contradicted" in words
        else "reproduced"
        if "reproduced" in words
        else "reported"
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Mark(word, records, of_files(files), now, airepair.__version__, found, wrong)


def write(mark: Mark, folder: Path) -> Path:
    """Writes verification.json beside the records. OSError if it cannot be written."""
    path = folder / MARK
    write_atomically(path, (json.dumps(asdict(mark), indent=1) + "\n").encode())
    return path


def read(folder: Path) -> Mark | None:
    """Returns the folder's mark; None if it has none, or if its records have changed since.
    UsageError for one that is malformed.
    """
    path = folder / MARK
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}; accepted: what airepair verify --reproduce wrote"
        ) from None
    mark = checked(raw, Mark, str(path))
    return mark if mark.digest == of_files(folder.glob("*.jsonl")) else None
