"""Runs one cell from its spec."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from airepair.case import Case
from airepair.errors import Unavailable, UsageError, one_line
from airepair.host.signals import end_in_order
from airepair.methods import build
from airepair.paths import cache
from airepair.records import FINISHED, Record, append
from airepair.records.fingerprint import Fingerprint
from airepair.records.lookup import Lookup
from airepair.records.tenancy import Tenancy
from airepair.runner.cell import CellSpec, Deaf
from airepair.runner.device import device_of
from airepair.runner.loading import Loader
from airepair.runner.provenance import fingerprint_now
from airepair.runner.run import run_cell
from airepair.runner.storage import RECORDS, Keep, file_before, file_result


def run(args: argparse.Namespace) -> int:
    """Runs the cell unless its record stands, and prints one line."""
    spec: CellSpec = replace(args.cell, device=str(device_of(args.cell.device)))
    end_in_order()  # a scheduler's SIGTERM: the line that is being written is finished
    args.out.mkdir(parents=True, exist_ok=True)
    tenancy = Tenancy(args.out)
    tenancy.share()
    if not tenancy.claim(str(spec.case)):
        raise UsageError(
            f"another process runs {spec.case} into {args.out}; accepted: one task per cell, or another --out"
        )
    record, stands = _result(spec, args.out, args.keep_models)
    scores = [
        f"accuracy {100 * found['accuracy']:.2f}"
        for found in (record.before, record.after)
        if "accuracy" in found
    ]
    words = [record.reason, " -> ".join(scores), "its record stands" if stands else ""]
    print(f"{record.key}: {record.status}{''.join(f'; {w}' for w in words if w)}")
    return 0 if record.status in FINISHED else 1


def _result(spec: CellSpec, out: Path, keep: Keep) -> tuple[Record, bool]:
    """The cell's record, on disk, and whether it was there."""
    loader = Loader(cache())
    try:
        if (found := _standing(spec, loader, out)) is not None:
            return found, True
        return _run(spec, loader, out, keep), False
    except Unavailable as error:
        record = Record(spec.case, "skipped", one_line(error, 2000))
    except Exception as error:
        record = Record(spec.case, "failed", one_line(error, 2000))
    append(out / RECORDS, record)
    return record, False


def _standing(spec: CellSpec, loader: Loader, out: Path) -> Record | None:
    def wanted() -> Fingerprint:
        return fingerprint_now(
            spec, loader.without_training(spec), build(spec.case.base_method, spec.options)
        )

    return Lookup(out / RECORDS).resume(str(spec.case), wanted)[0]


class _Filing(Deaf):
    """Keeps the scores before the repair, so that they are there if the process dies."""

    def __init__(self, out: Path, case: Case) -> None:
        self.out, self.case = out, case

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """Files them."""
        file_before(self.out, self.case, scores, missing)


def _run(spec: CellSpec, loader: Loader, out: Path, keep: Keep) -> Record:
    result = run_cell(spec, cache=cache(), events=_Filing(out, spec.case), load=loader)
    file_result(out, result, keep)
    return result.record
