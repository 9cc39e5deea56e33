"""The repair methods, one file each.

A new one is its file and its line here; other packages use the entry point `airepair.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airepair.options import configure
from airepair.registry import Registry

if TYPE_CHECKING:
    from airepair.types import Method


class MethodRegistry(Registry):
    """Names methods, combinations (`apricot+dl2` runs one after the other) and external tools
    (`tool:NAME`, see external/method.py).
    """

    def check(self, name: str) -> str:
        """Returns `name` if each of its parts is a method; UsageError otherwise."""
        for part in name.split("+"):
            super().check(part)
        return name

    def problem(self, found: Any) -> str:
        """A method is a frozen dataclass with a card and `repair`; the conformance kit
        (airepair.testing) says the rest.
        """
        parameters = getattr(found, "__dataclass_params__", None)
        if not isinstance(found, type) or parameters is None or not parameters.frozen:
            return (
                f"{getattr(found, '__name__', type(found).__name__)} is not a frozen dataclass "
                f"(docs/adding-a-method.md)"
            )
        lacks = [
            a
            for a in ("name", "category", "paper", "sources", "ablations", "budget", "repair")
            if not hasattr(found, a)
        ]
        return f"{found.__name__} lacks {', '.join(lacks)} (docs/adding-a-method.md)" if lacks else ""

    def get(self, name: str) -> Any:
        """Returns the method's class, imported now; that of a combination is made from its parts."""
        if name.startswith("tool:") and "+" not in name:
            return super().get(f"airepair.external.method:{name.removeprefix('tool:')}")
        if "+" not in name:
            return super().get(name)
        from airepair.methods.combined import combine

        return combine([self.get(part) for part in name.split("+")])


METHODS = MethodRegistry(
    "method",
    "airepair.methods",
    {
        "noop": "airepair.methods.noop:Noop",
        "finetune": "airepair.methods.finetune:Finetune",
        "interpolate": "airepair.methods.interpolate:Interpolate",
        "random": "airepair.methods.random_change:RandomChange",
        "apricot": "airepair.methods.apricot.method:Apricot",
        "deeprepair": "airepair.methods.deeprepair.method:DeepRepair",
        "deeprepair_style": "airepair.methods.deeprepair_style.method:StyleGuidedDeepRepair",
        "dl2": "airepair.methods.dl2:DL2",
        "best": "airepair.methods.best:Best",
        "arachne": "airepair.methods.arachne:Arachne",
        "care": "airepair.methods.care:Care",
        "editable": "airepair.methods.editable:Editable",
        "counterexample": "airepair.methods.counterexample:Counterexample",
        "mode": "airepair.methods.mode:Mode",
        "deepcorrect": "airepair.methods.deepcorrect.method:DeepCorrect",
        "minimal": "airepair.methods.minimal:Minimal",
        "prdnn": "airepair.methods.prdnn:PRDNN",
        "memit": "airepair.methods.memit:Memit",
        "irepair": "airepair.methods.irepair:IRepair",
        "lookup": "airepair.methods.lookup:Lookup",
        "aprnn": "airepair.methods.aprnn:APRNN",
    },
)


# Asked for by name only: `best` runs several other methods in one cell, so it would cost as much as
# the rest of the grid.
ON_REQUEST = ("best",)


def build(name: str, options: Mapping[str, Any]) -> Method:
    """Returns the method of that name with the given options; UsageError for an unknown name,
    option, type or range.
    """
    method: Method = configure(METHODS.get(name), options, name)
    return method
