"""AIREPAIR from Python: `airepair.repair`, `load`, `compare` and `verdict` (docs/python.md). The
package's own page imports this on first use.
"""

from airepair.api.own_module import Repair, repair
from airepair.api.results import Records, compare, load, verdict

__all__ = ["Records", "Repair", "compare", "load", "repair", "verdict"]
