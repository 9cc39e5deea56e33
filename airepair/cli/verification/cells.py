"""What the process of child.py does once its arithmetic is chosen: cells, one after the other."""

from __future__ import annotations

from pathlib import Path

from airepair.errors import AirepairError, one_line
from airepair.paths import cache
from airepair.records import Record, append
from airepair.runner.cell import CellSpec
from airepair.runner.device import device_of
from airepair.runner.run import run_cell


def run(specs: Path, records: Path) -> None:
    """Runs the cell of each line of `specs`; `records` gets each record as soon as it is there."""
    for line in specs.read_bytes().splitlines():
        spec = CellSpec.from_json(line)
        try:
            device_of(spec.device)  # one thread on the CPU, as in the run whose bits are compared
            record = run_cell(spec, cache=cache()).record
        except AirepairError as error:
            record = Record(spec.case, "failed", one_line(error))
        append(records, record)
