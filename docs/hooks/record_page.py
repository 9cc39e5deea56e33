"""The page of the record's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from airepair.records.schema import Line
from docs.hooks.markdown import joined, prose, sentence, table


def records_page() -> str:
    """Every field of a line of records.jsonl."""
    return f"""# Records

A run files one JSON line per cell in `records.jsonl`. The schema below is the one by which every
line is checked when it is read; a line that does not fit is named with its file, number, field and
value, and the other lines are read.

{joined(structs(Line, "A line"))}
"""


def structs(struct: type, title: str) -> Iterator[str]:
    """The table of a struct, then those of the structs within it."""
    rows, inner = [], []
    for part in msgspec.structs.fields(struct):
        hint, about = described(part.type)
        needed = "yes" if part.required else ""
        rows.append((f"`{part.encode_name}`", type_words(hint), needed, prose(about)))
        inner += [s for s in within(hint) if s not in inner]
    yield f"## {title}\n\n{sentence(struct)}\n\n{table(('field', 'type', 'required', 'meaning'), rows)}"
    for found in inner:
        yield from structs(found, f"{found.__name__}")


WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "none",
    Any: "any",
}


def described(hint: Any) -> tuple[Any, str]:
    """A type without its annotations, and the description among these."""
    if hasattr(hint, "__metadata__"):
        texts = (getattr(m, "description", None) for m in hint.__metadata__)
        return hint.__origin__, " ".join(t for t in texts if t)
    return hint, ""


def type_words(hint: Any) -> str:
    """A type as a person reads it: `map of numbers`, `text or none`."""
    hint = described(hint)[0]
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inside)
    if origin in (Union, UnionType):
        return " or ".join(type_words(a) for a in inside)
    if origin is dict:
        return f"map of {type_words(inside[1])}"
    if origin is tuple:
        several = inside[-1] is Ellipsis
        return f"list of {type_words(inside[0])}" if several else f"{len(inside)} x {type_words(inside[0])}"
    words = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        type(None): "none",
        Any: "any",
    }
    return words.get(hint) or f"[{hint.__name__}](#{hint.__name__.lower()})"


def within(hint: Any) -> list[type]:
    """The structs in a type."""
    hint = described(hint)[0]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [s for a in get_args(hint) if a is not Ellipsis for s in within(a)]
