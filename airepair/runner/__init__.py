"""The one door: a cell runs one way, whoever asks for it (pytest, `airepair repair`, `tune`,
`--testonly`, the conformance kit).

cell.py       CellSpec and CellResult: what goes in and what comes out, as values that travel;
              specify.py builds a spec from what a user asked for
loading.py    the subject: trained, faulty or brought; held between cells, checked after each
prepared.py   the exams before the repair
repair.py     the only timed call, and how it ended
outcome.py    the exams after it, and the record
artifacts.py  what a cell keeps beside its record
run.py        run_cell: these stages one after the other
"""

from airepair.runner.cell import CellResult, CellSpec

__all__ = ["CellResult", "CellSpec"]
