"""Lists what is registered (methods with their options, models, data sets, metrics, faults), and
what cannot be imported.

The cards of built-in methods and external tools follow from this package's source and the tools'
manifests alone, so they are kept in the cache under a digest of these: only a change, or a method of
another package, makes the list import methods, and torch with them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import airepair
from airepair import paths
from airepair.cli.flags import add_flags
from airepair.data import DATASETS
from airepair.errors import UsageError
from airepair.external.manifest import installed
from airepair.faults import FAULTS
from airepair.host.digest import of_files, of_json
from airepair.host.kept_values import KeptValues
from airepair.methods import METHODS
from airepair.metrics import broken, entries
from airepair.models import MODELS
from airepair.options import SOURCES, describe

if TYPE_CHECKING:
    from airepair.registry import Registry

WHAT = ("methods", "models", "datasets", "metrics", "faults")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares `what`, optionally one name, and JSON instead of text."""
    parser.add_argument("what", choices=WHAT, help="what to list")
    parser.add_argument("name", nargs="?", help="only this one; for methods also MODULE:CLASS or a+b")
    add_flags(parser, "list")


def run(args: argparse.Namespace) -> int:
    """Prints the list; what cannot be imported is reported on standard error and does not stop the others."""
    found, broken = LISTS[args.what](args.name)
    if args.json:
        print(json.dumps(found, indent=1, default=str))
    else:
        width = max(map(len, found), default=0) + 2
        for name, about in found.items():
            print("\n".join(_text(args.what, name, about, width)))
        if args.what == "methods":
            print("In brackets, the source of each default: a publication or its code, or one of these:")
            print("\n".join(f"    {word:<12}{meaning}" for word, meaning in SOURCES.items()))
    for reason in broken.values():
        print(f"airepair: {reason}", file=sys.stderr)
    return 0


def _text(what: str, name: str, about: dict[str, Any], width: int) -> Iterator[str]:
    if what != "methods":
        yield f"{name:<{width}}" + "  ".join(str(v) for v in about.values() if v)
        return
    yield f"{name}  [{about['category']}]  {about['paper']}"
    yield f"    {about['idea']}"
    for o in about["options"]:
        ends = (
            f" in {_end(o['low'], '-inf')}..{_end(o['high'], 'inf')}"
            if (o["low"], o["high"]) != (None, None)
            else ""
        )
        source = f" ({o['source']})" if o["source"] else ""
        tune = f"; tuned over {o['tune']}" if o["tune"] else ""
        yield f"    {o['name']:<18} {_shown(o['default']):<14} {o['type']}{ends}: {o['help']}{source}{tune}"
    yield f"    needs: {about['needs']}" if about["needs"] else "    needs: nothing beyond the core"
    yield ""


def _end(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:g}"


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def methods(name: str | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns each method's card: category, paper, first sentence, options, needs."""
    if name is not None:
        return _each(METHODS, name, _card)
    kept = KeptValues(paths.cache() / "cards.jsonl")
    found: dict[str, dict[str, Any]] = {}
    broken = METHODS.ignored()
    tools = {f"tool:{tool}": [folder / "tool.toml"] for tool, folder in installed().items()}
    for method in (*METHODS.names(), *tools):
        known = method in METHODS.builtin or method in tools
        make = partial(_card_of, method)
        try:
            key = of_json([method, of_package(), of_files(tools.get(method, []))])
            found[method] = kept.of(key, make) if known else make()
        except UsageError as error:
            broken[method] = str(error)
    return found, broken


def _card_of(method: str) -> dict[str, Any]:
    return _card(METHODS.get(method))


@cache
def of_package() -> str:
    """Returns the digest of this package's source."""
    return of_files(Path(airepair.__file__).parent.rglob("*.py"))


def _card(cls: Any) -> dict[str, Any]:
    text = inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or ""
    return {
        "category": cls.category,
        "paper": cls.paper,
        "idea": " ".join(text.split("\n\n")[0].split()),
        "needs": getattr(cls, "needs", ""),
        "options": [asdict(o) | {"tune": str(o.tune) if o.tune else None} for o in describe(cls)],
    }


def models(name: str | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns the architectures with their places; `dataset/name` is for one data set."""
    return _each(MODELS, name, _sentence)


def datasets(name: str | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The data sets with what their functions say."""
    return _each(DATASETS, name, _sentence)


def faults(name: str | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns the known faults that subjects can carry."""
    return _each(FAULTS, name, _fault)


def _fault(cls: Any) -> dict[str, Any]:
    severity = next(o for o in describe(cls) if o.name == "severity")
    ends = f"{_end(severity.low, '-inf')}..{_end(severity.high, 'inf')}"
    return _sentence(cls) | {"severity": f"severity {severity.default:g} in {ends}: {severity.help}"}


def _sentence(thing: Any) -> dict[str, Any]:
    return {"about": " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())}


def metrics(name: str | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Returns the metrics with title, unit, direction and source."""
    chosen = {k: e for k, e in entries().items() if name in (None, k)}
    if not chosen:
        raise UsageError(f"unknown metric {name!r}; accepted: {', '.join(entries())}")
    return {
        k: {"title": e.title, "unit": e.unit, "better": f"better: {e.better}", "source": e.source}
        for k, e in chosen.items()
    }, broken()


def _each(
    registry: Registry, name: str | None, about: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    if name is not None:
        return {name: about(registry.get(name))}, {}
    broken = registry.broken()
    return {n: about(registry.get(n)) for n in registry.names() if n not in broken}, broken


LISTS = {"methods": methods, "models": models, "datasets": datasets, "metrics": metrics, "faults": faults}
