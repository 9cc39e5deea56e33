"""GELU in a TensorFlow graph, which has no operation for it: a product of x, 0.5 and 1 + erf(x /
sqrt(2)), or erfc(-x / sqrt(2)).

tf.nn.gelu, and Keras by it, writes the second in TensorFlow 2.21; earlier versions wrote the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_SAME = ("Identity", "StopGradient", "CheckNumerics")
_DEEP = 2  # products within each other: three factors; or a sign and a product
ROOT = math.sqrt(0.5)


def gelus(nodes: Mapping[str, Any], constants: Mapping[str, float]) -> dict[str, str]:
    """Returns the last operation of each GELU -> what goes in. `nodes` have no loop; `constants`:
    those that are one number, with it.

    The factors may stand in any order and be multiplied in any order.
    """
    graph = _Graph(nodes, constants)
    sums = {
        name: x
        for name, node in nodes.items()
        if node.op in ("Add", "AddV2", "Erfc") and (x := graph.doubled(name)) is not None
    }
    found = {}
    for name in (n for n, node in nodes.items() if node.op == "Mul"):
        for total in sums.keys() & set(graph.factors(name, frozenset(sums))):
            x = sums[total]
            factors = graph.factors(name, frozenset((x, total)))
            numbers = [constants[f] for f in factors if f in constants]
            if numbers == [0.5] and sorted(f for f in factors if f not in constants) == sorted((x, total)):
                found[name] = x
    return found


class _Graph:
    def __init__(self, nodes: Mapping[str, Any], constants: Mapping[str, float]) -> None:
        self.nodes, self.constants = nodes, constants

    def inputs(self, name: str) -> list[str]:
        """What a node reads, behind whatever passes it on unchanged."""
        found = (i.split(":")[0] for i in self.nodes[name].input if not i.startswith("^"))
        return [self._passed(i) for i in found if i in self.nodes]

    def _passed(self, name: str) -> str:
        while (
            self.nodes[name].op in _SAME
            and self.nodes[name].input
            and self.nodes[name].input[0].split(":")[0] in self.nodes
        ):
            name = self.nodes[name].input[0].split(":")[0]
        return name

    def doubled(self, name: str) -> str | None:
        """The x whose normal distribution function, doubled, the node is: 1 + erf(x / sqrt(2)),
        erfc(-x / sqrt(2)). None for anything else.
        """
        if self.nodes[name].op == "Erfc":
            return self.scaled(name, -ROOT)
        inputs = self.inputs(name)
        erfs = [n for n in inputs if self.nodes[n].op == "Erf"]
        return (
            self.scaled(erfs[0], ROOT)
            if len(inputs) == 2 and len(erfs) == 1 and any(map(self.is_one, inputs))
            else None
        )

    def is_one(self, name: str) -> bool:
        """Whether the node is the number."""
        return self.constants.get(name) == 1

    def scaled(self, function: str, wanted: float) -> str | None:
        """The x of function(x * wanted), over a sign, a product and a quotient."""
        factor, inputs = 1.0, self.inputs(function)
        for _ in range(_DEEP):
            if len(inputs) != 1:
                return None
            (name,) = inputs
            inputs = self.inputs(name)
            numbers = [self.constants[n] for n in inputs if n in self.constants]
            inputs = [n for n in inputs if n not in self.constants]
            match self.nodes[name].op, numbers:
                case "Neg", []:
                    factor = -factor
                case "Mul", [number]:
                    factor *= number
                case "RealDiv", [number] if number and self.inputs(name)[0] == inputs[0]:
                    factor /= number
                case _:
                    return None
            if math.isclose(factor, wanted, rel_tol=1e-5):
                return inputs[0]
        return None

    def factors(self, name: str, ends: frozenset[str], deep: int = _DEEP) -> list[str]:
        """The factors of a product, down to `ends` and to what is no product."""
        if name in ends or not deep or self.nodes[name].op != "Mul":
            return [name]
        return [factor for part in self.inputs(name) for factor in self.factors(part, ends, deep - 1)]
