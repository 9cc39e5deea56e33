"""The process in which cells are run again: `python -m airepair.verification.child portable|native
SPECS RECORDS`.

SPECS has a spec per line (CellSpec.to_json); RECORDS gets a record's line for each, in the same
order, as soon as it is there. A cell that cannot run has a "failed" record that says why. A method
that ends this process costs the cells after it, not the verification.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airepair.arithmetic.setup import set_up


def main(arithmetic: str, specs: Path, records: Path) -> None:
    """One cell after the other, in that arithmetic."""
    set_up(portable=arithmetic == "portable")
    # Only now: these load numpy and torch, which choose their kernels then.
    from airepair.errors import AirepairError, one_line
    from airepair.paths import cache
    from airepair.records import Record, append
    from airepair.runner.cell import CellSpec
    from airepair.runner.run import run_cell

    for line in specs.read_bytes().splitlines():
        spec = CellSpec.from_json(line)
        try:
            record = run_cell(spec, cache=cache()).record
        except AirepairError as error:
            record = Record(spec.case, "failed", one_line(error))
        append(records, record)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
