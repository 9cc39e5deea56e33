"""AIREPAIR: runs neural-network repair methods on the same model, fairly, and says which to use.

From Python: `airepair.repair(module, data, method="memit")`, `airepair.load("reports/out")`,
`airepair.compare(old, new)` and `airepair.verdict("reports/out")` (docs/python.md). They are
imported on first use: the reports and the pytest plugin must load without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airepair.api import compare, load, repair, verdict

__all__ = ["BENCHMARK_VERSION", "__version__", "compare", "load", "repair", "verdict"]
__version__ = "0.1.0"
# What a number means: splits, budgets, settings, metrics. Numbers of two versions never stand in
# one table. 2: the cell's seed draws the splits.
BENCHMARK_VERSION = 2


def __getattr__(name: str) -> Any:
    """The functions of airepair.api."""
    if name in ("compare", "load", "repair", "verdict"):
        return getattr(import_module("airepair.api"), name)
    raise AttributeError(f"module 'airepair' has no attribute {name!r}")
