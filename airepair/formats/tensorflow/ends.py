"""Where the network of a TensorFlow graph begins and ends: the image input, and the output that is one
number per class.

A file may go on behind that output (the arg-max, a comparison with the labels, an accuracy, a
loss), or have several outputs (probabilities and classes). The output is found by going back from
the ends over such operations; where one candidate feeds another, the later one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airepair.errors import UsageError


def words(text: str) -> frozenset[str]:
    """Returns the names of operations, apart by blanks."""
    return frozenset(text.split())


# What no network is made of, and what may stand behind it or inside: gone over only behind one of the first.
_NEVER = words(
    "ArgMax Equal NotEqual TopK TopKV2 InTopK InTopKV2 Log OneHot SoftmaxCrossEntropyWithLogits "
    "SparseSoftmaxCrossEntropyWithLogits"
)
_EITHER = words(
    "Cast Mean Sum Neg Mul Sub Add AddV2 Maximum RealDiv Identity Squeeze ExpandDims Reshape Transpose"
)
_RANKS = (2, 3, 4)  # of an image input, the batch included


def ends(graph: Any, outputs: Iterable[str] | None, what: str) -> tuple[str, str, tuple[str, ...]]:
    """Returns the input node, the output node, and the operations behind it. `outputs`: nodes of a
    signature; None: those that nobody reads.

    UsageError if there is not one of each.
    """
    nodes = {n.name: n for n in graph.node}
    above = _Above(nodes)
    if outputs is None:
        used = {_name(i) for n in graph.node for i in n.input if not i.startswith("^")}
        outputs = [n.name for n in graph.node if n.name not in used]
    behind: set[str] = set()
    candidates = {
        c for name in outputs if name in nodes for c in _back(nodes, name, behind)[0] if above.images(c)
    }
    candidates -= {other for name in candidates for other in above.of(name) if other != name}
    images = sorted({i for name in candidates for i in above.images(name)})
    if len(images) != 1 or len(candidates) != 1:
        raise UsageError(
            f"{what} has image inputs {images[:4]} and outputs {sorted(candidates)[:4]}; "
            f"one of each was expected"
        )
    return images[0], candidates.pop(), tuple(sorted(behind))


class _Above:
    """What each node is computed from, itself included."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.nodes = nodes
        self.known: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> frozenset[str]:
        if name not in self.known:
            seen, waiting = set(), [name]
            while waiting:
                here = waiting.pop()
                if here in seen or here not in self.nodes:
                    continue
                seen.add(here)
                waiting.extend(_name(i) for i in self.nodes[here].input if not i.startswith("^"))
            self.known[name] = frozenset(seen)
        return self.known[name]

    def images(self, name: str) -> list[str]:
        """The placeholders above it that may be images, if it is not one itself."""
        found = [n for n in self.of(name) if _is_image(self.nodes[n])]
        return [] if name in found else found


def _is_image(node: Any) -> bool:
    placed = node.op == "Placeholder" and node.attr["dtype"].type == 1
    return placed and len(node.attr["shape"].shape.dim) in _RANKS


def _back(nodes: dict[str, Any], name: str, behind: set[str]) -> tuple[set[str], bool]:
    """The nodes before whatever stands behind a network, and whether anything does; its operations
    go into `behind`.
    """
    node = nodes[name]
    inputs = [_name(i) for i in node.input if not i.startswith("^") and _name(i) in nodes]
    if node.op not in _NEVER and node.op not in _EITHER:
        return {name}, False
    found, gone = set(), node.op in _NEVER
    for source in inputs:
        above, over = _back(nodes, source, behind)
        found |= above
        gone |= over
    if not gone:
        return {name}, False
    behind.add(node.op)
    return found, True


def _name(text: str) -> str:
    return text.lstrip("^").split(":")[0]
