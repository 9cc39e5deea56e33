"""A record's options against the method's own: names, types, ranges, and that what nobody gave is
the default.
"""

from __future__ import annotations

from collections.abc import Iterator

from airepair.errors import UsageError
from airepair.host.source_code import source_digest
from airepair.host.validation import shown
from airepair.methods import METHODS
from airepair.options import configure, describe
from airepair.records import Record
from airepair.records.fingerprint import of


def wrong_options(record: Record) -> tuple[list[str], str]:
    """What the method would not take, or would not have by itself; and why the options were not
    compared ("" if they were).

    A record of another version of the method's source may have other options: only one with this
    source is judged.
    """
    if not record.options:
        return [], ""
    try:
        method = METHODS.get(record.case.base_method)
    except UsageError as error:
        return [], f"options not compared: {error}"
    stated = of(record).get("source")
    values = {name: entry["value"] for name, entry in record.options.items()}
    try:
        built = configure(method, values, record.case.base_method)
    except UsageError as error:
        # Without a configured method its source is that of its defaults: right for all but those
        # whose options name other methods.
        return ([str(error)], "") if stated == source_digest(method()) else ([], _another(record, stated))
    if stated != source_digest(built):
        return [], _another(record, stated)
    return list(_not_defaults(record, method)), ""


def _another(record: Record, stated: str | None) -> str:
    name = record.case.base_method
    return (
        f"options not compared: {name} has another source here"
        if stated
        else "options not compared: no digest of the method's source"
    )


def _not_defaults(record: Record, method: type) -> Iterator[str]:
    name = record.case.base_method
    defaults = {option.name: option.default for option in describe(method)}
    for option, entry in record.options.items():
        if not entry.get("given") and _plain(entry["value"]) != _plain(defaults[option]):
            yield (
                f"{name}.{option} is {shown(entry['value'])} and was not given; "
                f"the default is {shown(defaults[option])}"
            )
    missing = sorted(set(defaults) - set(record.options))
    if missing:
        yield f"it lacks the options {', '.join(missing)} of {name}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
