"""The reference pages of the docs site, written from the code: nothing in them is typed by hand.

`pages` needs torch, since it imports every method, and neither mkdocs nor a network.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

from airepair.data import DATASETS
from airepair.data.catalogue import OFFICIAL
from airepair.faults import FAULTS
from airepair.methods import METHODS
from airepair.metrics import METRICS, Entry
from airepair.models import MODELS
from airepair.options import SOURCES, Option, describe
from docs.hooks.command_pages import benchmark_page, commands_page
from docs.hooks.markdown import Row, capital, code, joined, linked, prose, rest, sentence, table
from docs.hooks.record_page import records_page

KINDS = {
    "training": "The fault is in the training.",
    "weights": "The fault is in the weights of the trained network.",
    "environment": "The fault is in the inputs of the trained network.",
}


def pages() -> dict[str, str]:
    """Address of a page below docs/ -> its Markdown."""
    found = {f"reference/methods/{name}.md": method_page(name) for name in METHODS.builtin}
    found |= {
        "reference/methods/index.md": methods_page(),
        "reference/metrics.md": metrics_page(),
        "reference/faults.md": faults_page(),
        "reference/data-sets.md": sets_page(),
        "reference/commands.md": commands_page(),
        "reference/benchmark-options.md": benchmark_page(),
        "reference/records.md": records_page(),
    }
    return {uri: linked(uri, text) for uri, text in found.items()}


# ---- methods -------------------------------------------------------------------------------------


def methods_page() -> str:
    """All methods in one table."""
    rows = []
    for name in METHODS.builtin:
        cls = METHODS.get(name)
        rows.append((f"[`{name}`]({name}.md)", cls.category, _idea(cls)))
    sources = table(("word", "meaning"), ((f"`{k}`", v) for k, v in SOURCES.items()))
    return f"""# Methods

Each page below is the card of a method: its idea, what it changes, what it refuses, and every option
with its default and the source of that default. `airepair list methods NAME` prints the same.

{table(("method", "category", "what it is"), rows)}

## Sources of defaults

A default comes from a publication or its public code, or its source is one of these words:

{sources}
"""


def _module(cls: Any) -> Any:
    return sys.modules[cls.__module__]


def _idea(cls: Any) -> str:
    """What a method is: the first paragraph of its card, without its name."""
    return sentence(_module(cls)).partition(": ")[2]


def method_page(name: str) -> str:
    """The card of a method as a page."""
    cls = METHODS.get(name)
    facts = {
        "Category": cls.category,
        "Published as": prose(cls.paper),
        "Learns from": _sources(cls),
        "Needs": prose(getattr(cls, "needs", "")) or "nothing beyond the core",
    }
    listed = "\n".join(f"- **{name}**: {text}" for name, text in facts.items())
    parts = [f"# {name}", capital(_idea(cls)), listed, rest(_module(cls)), options_part(name, cls)]
    if cls.ablations:
        given = {k: " ".join(f"`{o}={v}`" for o, v in w.items()) for k, w in cls.ablations.items()}
        parts += [
            "## Ablations",
            "Settings in which only the idea of the method is off "
            "([what they show](../../reports.md#table-iii-is-it-the-idea)):",
            table(("cell", "options"), ((f"`{name}[{k}]`", v) for k, v in given.items())),
        ]
    return joined(parts) + "\n"


def _sources(cls: Any) -> str:
    """The sources of a method with its default options."""
    names = ", ".join(f"`{s}`" for s in sorted(cls().sources)) or "no images"
    decided = isinstance(inspect.getattr_static(cls, "sources"), property)
    return f"{names} (its options can change that)" if decided else names


def options_part(name: str, cls: Any) -> str:
    """Every option of a method."""
    options = describe(cls)
    if not options:
        return "## Options\n\nNone."
    heads = ("option", "default", "accepted", "meaning", "source of the default", "`airepair tune` searches")
    use = f"`--set {name}.{options[0].name}=VALUE` sets one."
    return f"## Options\n\n{use}\n\n{table(heads, map(option_row, options))}"


def option_row(o: Option) -> Row:
    """One option, in the order of the heads."""
    return (
        f"`{o.name}`",
        code(o.default),
        accepted(o),
        prose(o.help),
        prose(o.source),
        prose(str(o.tune)) if o.tune else "",
    )


def accepted(o: Option) -> str:
    """The values that an option accepts: words, or a type with its range."""
    if o.type.startswith("one of "):
        return ", ".join(f"`{word}`" for word in o.type.removeprefix("one of ").split("|"))
    low, high = ("" if end is None else f"{end:g}" for end in (o.low, o.high))
    return o.type + (f" from {low}" if low else "") + (f" to {high}" if high else "")


# ---- metrics, faults, data sets ------------------------------------------------------------------


def metrics_page() -> str:
    """Every metric: what it is, its range, and when it is missing."""
    rows = (metric_row(name, entry) for name, entry in METRICS.items())
    heads = ("metric", "definition", "missing if", "range", "better", "source")
    return f"""# Metrics

A metric is a function of the exams before and after the repair. If it cannot be computed it is
*missing*, and the record gives the reason; it is never 0 and never NaN. [Reading the constraint
score](../metrics.md) explains the ones that are easily misread.

{table(heads, rows)}
"""


def metric_row(name: str, entry: Entry) -> Row:
    """One metric, in the order of the heads."""
    module, _, function = entry.place.partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
    about, _, missing = text.partition("Missing if ")
    low, high = ("" if abs(end) == float("inf") else f"{end:g}" for end in entry.range)
    span = f"{low} to {high}" if low and high else f"from {low}" if low else "any"
    return (
        f"`{name}`",
        prose(" ".join(about.split())).rstrip("."),
        prose(" ".join(missing.split())).rstrip("."),
        span,
        "" if entry.better == "none" else entry.better,
        prose(entry.source),
    )


def faults_page() -> str:
    """Every fault with its options."""
    parts = []
    for name in FAULTS.builtin:
        cls = FAULTS.get(name)
        about = sentence(_module(cls)).partition(": ")[2]
        options = table(
            ("option", "default", "accepted", "meaning"),
            [option_row(o)[:4] for o in describe(cls) if o.name != "seed"],
        )
        parts.append(
            f"## `{name}`\n\n{capital(about)}\n\n{KINDS[cls.kind]}\n\n{rest(_module(cls))}\n\n{options}"
        )
    return f"""# Faults with a known cause

`--model fc+NAME` puts a fault into a subject, and `fc+NAME0.2` sets its severity. [Faults](../faults.md)
explains the clean twin and the scores.

{joined(parts)}
"""


def sets_page() -> str:
    """The data sets and the architectures."""
    rows = ((f"`{n}`", sentence(DATASETS.get(n)), "yes" if n in OFFICIAL else "") for n in DATASETS.builtin)
    models = ((f"`{n}`", sentence(MODELS.get(n))) for n in MODELS.builtin)
    return f"""# Data sets and architectures

## Data sets

`npz:PATH` and `folder:PATH` are data of your own ([data sets](../data.md)).

{table(("data set", "what it is", "`airepair data get` fetches it"), rows)}

## Architectures

`digits/NAME` is for that data set only. `resnet18w16` is `resnet18` with 16 channels in its first layer.

{table(("architecture", "what it is"), models)}
"""
