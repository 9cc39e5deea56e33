"""The folder of a run: made once, never an earlier one's; its log, records, configuration, report
and repaired models.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airepair.errors import UsageError
from airepair.host.atomic import write_atomically
from airepair.records import Record
from airepair.report.before_after import before_after
from airepair.report.cells import grid
from airepair.report.costs import costs
from airepair.report.markdown import markdown
from airepair.report.recommend import recommendations
from airepair.runner.storage import RECORDS

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """It holds records.jsonl, cells/ (see filing), models/, config.toml, log.txt, report.md."""

    path: Path

    @property
    def records(self) -> Path:
        """Where the records are appended."""
        return self.path / RECORDS

    @property
    def models(self) -> Path:
        """Returns where the repaired models go."""
        return self.path / "models"

    def log(self, text: str) -> None:
        """Appends lines to log.txt, on disk at once."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')}  {text}\n")

    def write_config(self, text: str) -> None:
        """Writes config.toml, whole or not at all."""
        write_atomically(self.path / "config.toml", text.encode())

    def write_report(self, records: Sequence[Record], lines: Sequence[str] = ()) -> None:
        """Writes report.md from the records so far; `lines` (on the written models) stand at its end."""
        cells = grid(records)
        parts = [
            "# Repair report\n",
            *(markdown(t) for t in (before_after(cells), costs(cells))),
            "## Which method to use\n",
        ]
        parts += [f"- {line}" for line in recommendations(cells)] or ["- No cell has finished."]
        parts += ["\n## Repaired models\n", *(f"- {line}" for line in lines or ("none was written",))]
        parts.append(
            "\n`airepair repair --config config.toml` runs this again; `airepair table .` renders the "
            "other reports."
        )
        write_atomically(self.path / "report.md", ("\n".join(parts) + "\n").encode())


def check(out: Path | None) -> None:
    """Raises UsageError if `--out` names something that is there already, before any work is done."""
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(
            f"--out {out} holds something already; accepted: a folder that is new or empty (an earlier "
            f"run is never overwritten)"
        )


def make(out: Path | None, subject: str) -> RunFolder:
    """The folder `out`, or a new one `runs/<date-time>-<subject>`.

    UsageError if it cannot be made; two runs never get the same.
    """
    check(out)
    wanted = out or RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{subject}"
    for number in range(1, 1000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}.{number}")
        try:
            path.mkdir(parents=True, exist_ok=out is not None)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"{path} cannot be made: {error.strerror or errno.errorcode.get(error.errno or 0, 'unknown')}"
            ) from error
        return RunFolder(path)
    raise UsageError(f"{wanted}.2 to .999 are all there; accepted: --out with a new folder")
