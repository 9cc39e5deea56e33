"""LaTeX: a table with spanning headings (booktabs: \\cmidrule), to be \\input into a paper that
loads booktabs.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate, pairwise

from airepair.report.table import Entry, Table
from airepair.report.text import plain

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "[": "{[}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "×": r"$\times$",
    "✗": r"$\otimes$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "·": r"\textperiodcentered{}",
}


def _character(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    if c.isascii() or unicodedata.name(c, "").startswith("LATIN "):
        return c
    return unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?"


def escape(text: str) -> str:
    """Returns the text so that LaTeX prints it as it stands; a minus sign before a number becomes
    one; what its fonts lack becomes "?".
    """
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", "".join(map(_character, plain(text))))


def _entry(entry: Entry) -> str:
    text = rf"\textbf{{{escape(entry.text)}}}" if entry.best else escape(entry.text)
    return f"{text} [{escape(entry.paper)}]" if entry.paper else text


def latex(table: Table) -> str:
    """Returns a floating table, its caption above, notes and claim lines below."""
    body = _tabular(table) if table.rows and table.headings else []
    below = [rf"\par\footnotesize {escape(line)}" for line in (*table.notes, *table.claims)]
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        *body,
        *below,
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(table: Table) -> list[str]:
    stub, spans = len(table.stub), list(table.spans())
    ends = list(accumulate((n for _, n in spans), initial=stub))
    above = " & ".join([""] * stub + [rf"\multicolumn{{{n}}}{{c}}{{{escape(group)}}}" for group, n in spans])
    rules = "".join(rf"\cmidrule(lr){{{a + 1}-{b}}}" for a, b in pairwise(ends))
    heads = " & ".join([*map(escape, table.stub), *(escape(h.title) for h in table.headings)])
    grouped = [rf"{above} \\", rules] if any(group for group, _ in spans) else []
    lines = [
        rf"\begin{{tabular}}{{{'l' * stub}{'r' * len(table.headings)}}}",
        r"\toprule",
        *grouped,
        rf"{heads} \\",
        r"\midrule",
    ]
    last = ""
    for i, row in enumerate(table.rows):
        if row.rule and i:
            lines.append(r"\addlinespace")
        first = "" if row.labels[0] == last and not row.rule else row.labels[0]
        last = row.labels[0]
        lines.append(
            " & ".join([escape(first), *map(escape, row.labels[1:]), *map(_entry, row.entries)]) + r" \\"
        )
    return [*lines, r"\bottomrule", r"\end{tabular}"]
