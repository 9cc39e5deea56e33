"""run_cell: load, examine, repair, examine again.

It writes into a temporary folder and the cache only, so a cell can run anywhere.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from airepair.runner.artifacts import files_of
from airepair.runner.cell import CellResult, CellSpec, Deaf, Listener
from airepair.runner.loading import Load, Loader
from airepair.runner.outcome import Outcome, outcome, untouched
from airepair.runner.prepared import PreparedCell, prepare
from airepair.runner.provenance import commit
from airepair.runner.repair import Caller, repair
from airepair.runner.written_model import write_models


def run_cell(
    spec: CellSpec,
    *,
    cache: Path,
    call: Caller = lambda f: f(),
    events: Listener = Deaf(),  # noqa: B008 (without state)
    load: Load | None = None,
) -> CellResult:
    """Runs one cell.

    UsageError for what cannot be meant (options, a file, images), Unavailable if something is
    missing on this machine: both before any repair. Whatever the method then does is in the record.
    `cache` holds trained baselines; `call` wraps the repair alone; `load` gives the subject
    (default: a loader without memory of earlier cells).
    """
    commit()  # of the code that is loaded now: the subject may be trained for hours
    ready = prepare(spec, (load or Loader(cache, events.progress))(spec))
    events.before(ready.scores, ready.missing)
    found = outcome(ready, repair(ready, call, events)) if spec.repair else untouched(ready)
    return result_of(ready, found)


def result_of(ready: PreparedCell, found: Outcome) -> CellResult:
    """What a cell leaves as values that travel; a spec that asks for written models gets them here."""
    record, models, lines = found.record, dict[str, bytes](), tuple[str, ...]()
    if ready.spec.models and found.module is not None:
        with TemporaryDirectory(prefix="airepair-models-") as folder:
            record, lines = write_models(Path(folder) / "models", ready, found)
            root = Path(folder) / "models"
            models = {
                str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
            }
    return CellResult(record, files_of(ready, found), models, lines, found.lost)
