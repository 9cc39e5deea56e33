"""Markdown: a table for a page of documentation, with its notes and claim lines."""

from __future__ import annotations

import re

from airepair.report.table import Entry, Table
from airepair.report.text import plain


def escape(text: str) -> str:
    """Returns the text so that Markdown shows it as it stands, also within a table."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", text)


def _entry(entry: Entry) -> str:
    text = f"**{escape(entry.text)}**" if entry.best else escape(entry.text)
    return f"{text} {escape(f'[{entry.paper}]')}" if entry.paper else text


def markdown(table: Table) -> str:
    """Returns the table; the data set stands above the model in each heading, since Markdown has no
    spanning ones.
    """
    parts = [f"**{escape(table.title)}**", ""]
    if table.rows and table.headings:
        heads = [
            *map(escape, table.stub),
            *("<br>".join(escape(t) for t in (h.group, h.title) if t) for h in table.headings),
        ]
        rules = [":--"] * len(table.stub) + ["--:"] * len(table.headings)
        rows = [[*map(escape, r.labels), *map(_entry, r.entries)] for r in table.rows]
        parts += [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)] + [""]
    parts += [f"{escape(line)}  " for line in (*table.notes, *table.claims)]
    return "\n".join(parts).rstrip() + "\n"
