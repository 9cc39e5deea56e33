"""Records of a run, from Python: loaded, compared with a baseline's, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airepair.records import Record, read, scan
from airepair.report.cells import grid
from airepair.report.gate.pairing import baseline
from airepair.report.gate.rules import rules_of
from airepair.report.gate.verdict import Verdict, judge
from airepair.report.verdict import verdict as sentences

PARTS = ("train", "repair", "validation", "test")
Arrays = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Records:
    """Holds the records of a run, and remarks about what was left out in reading."""

    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def to_frame(self) -> Any:
        """Returns a pandas DataFrame, a row per cell: the case, status, `before.METRIC`,
        `after.METRIC`, budget and seconds. ImportError without pandas.
        """
        import pandas

        return pandas.DataFrame([_row(r) for r in self.records])


def _row(record: Record) -> dict[str, Any]:
    case = record.case
    found: dict[str, Any] = {
        "dataset": case.dataset,
        "model": case.model,
        "method": case.method,
        "seed": case.seed,
        "status": record.status,
    }
    found |= {
        f"{when}.{name}": value
        for when in ("before", "after")
        for name, value in getattr(record, when).items()
    }
    return found | {"images": record.budget.get("backward"), "seconds": record.cost.get("seconds")}


def load(folder: str | Path) -> Records:
    """Returns the records of a folder or a .jsonl file. UsageError if there are none, or one cannot
    be read.
    """
    records, remarks = read([Path(folder)])
    return Records(tuple(records), tuple(remarks))


def compare(
    old: str | Path | Iterable[Record],
    new: str | Path | Iterable[Record],
    fail_if: Sequence[str] = (),
    level: float | None = None,
) -> Verdict:
    """Judges new records against a baseline's, as `airepair compare` judges them (the gate); each
    is a folder, a .jsonl file, or records.

    fail_if     rules as `accuracy:-0.5pp` (docs/reports.md); without any those of pyproject.toml or
                pytest.ini here, else the default
    level       how sure a decision must be

    `code` of what is returned is the exit code of the command (0 fine, 10 regressed or missing, 11
    nothing or not all could be compared, 12 cannot decide), `findings` has a line per cell and
    number. UsageError if the baseline cannot be read, or a rule is none.
    """
    rules = rules_of(list(fail_if), level, Path.cwd())
    before, remarks = baseline(Path(old)) if isinstance(old, str | Path) else (old, [])
    if not isinstance(new, str | Path):
        return judge(before, new, rules, remarks=remarks)
    found = scan([Path(new)])
    return judge(before, found.records, rules, remarks=[*remarks, *found.remarks], refused=found.refused)


def verdict(records: str | Path | Iterable[Record]) -> list[str]:
    """Returns what records say, in three to six sentences: of a folder, a .jsonl file, or records themselves.

    UsageError if they cannot be read.
    """
    return sentences(grid(load(records) if isinstance(records, str | Path) else records))
