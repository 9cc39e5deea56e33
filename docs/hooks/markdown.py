"""Docstrings and values as Markdown."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

Row = Sequence[str]


def joined(parts: Iterable[str]) -> str:
    """Blocks of Markdown, one below the other."""
    return "\n\n".join(parts)


def table(heads: Row, rows: Iterable[Row]) -> str:
    """A table; a `|` in a cell is escaped, and a column without any text is left out."""
    body = [list(row) for row in rows]
    kept = [i for i, head in enumerate(heads) if not head or any(row[i] for row in body)]
    lines = [[heads[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in body)]
    return "\n".join("| " + " | ".join(map(in_cell, line)) + " |" for line in lines)


def in_cell(text: str) -> str:
    """A text within a table: a `|` outside code would end the cell (within code it does not)."""
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", text)


def code(value: object) -> str:
    """A value in the words in which it is given."""
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


def prose(text: str) -> str:
    """A docstring as Markdown: its paragraphs, lists and code, with `<` as it stands."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    lines = text.split("\n")
    return "\n".join(s if s.startswith("    ") else html.escape(s, quote=False) for s in lines)


def linked(uri: str, text: str) -> str:
    """A page whose mentions of `docs/NAME.md` lead there."""
    up = "../" * uri.count("/")
    return re.sub(r"\bdocs/([\w-]+)\.md", rf"[\1]({up}\1.md)", text)


def sentence(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return prose(" ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()))


def rest(thing: Any) -> str:
    """A docstring without its first paragraph."""
    return prose((inspect.getdoc(thing) or "").partition("\n\n")[2])


def capital(text: str) -> str:
    """A sentence that begins with a capital."""
    return text[:1].upper() + text[1:]
