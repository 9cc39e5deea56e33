"""The process in which cells are run again: `python -m airepair.cli.verification.child portable|native
SPECS RECORDS`.

SPECS has a spec per line (CellSpec.to_json); RECORDS gets a record's line for each, in the same
order, as soon as it is there. A cell that cannot run has a "failed" record that says why. A method
that ends this process costs the cells after it, not the verification.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from airepair.host.arithmetic.setup import set_up


def main(arithmetic: str, specs: Path, records: Path) -> None:
    """Runs one cell after the other, in that arithmetic."""
    set_up(portable=arithmetic == "portable")
    # Only now: it loads numpy and torch, which choose their kernels then.
    import_module("airepair.cli.verification.cells").run(specs, records)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
