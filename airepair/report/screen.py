"""What a run ends with, on one screen: the verdict, Table I compact, a line per fault, where the rest is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from tabulate import tabulate

from airepair.case import TUNED, split_variant
from airepair.report.cells import Grid, faulty, sample, score, setting_of
from airepair.report.ordering import CONTROLS, Column, dataset_title, method_title, model_title
from airepair.report.table import fixed
from airepair.report.table2 import comparable
from airepair.report.verdict import METRIC, by_gain, gained, healthy, verdict

WIDTH, LINES = 80, 60
HEAD = 4  # lines of the compact table's heading
FAULTS = 10


def short(cells: Grid, paths: Sequence[str] = (), width: int = WIDTH, lines: int = LINES) -> str:
    """Returns the verdict, Table I compact, a line per fault and the paths, at most `lines` lines
    of at most `width` characters.
    """
    wrap = partial(
        textwrap.wrap, width=width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    head = [line for sentence in verdict(cells) for line in wrap(sentence)]
    faults = [textwrap.shorten(line, width, placeholder=" ...") for line in _faults(cells.plain)][:FAULTS]
    tail = [line for path in paths for line in wrap(path)]
    room = lines - len(head) - len(tail) - len(faults) - 4
    table = _compact(cells.plain, width, room)
    parts = [head, table, ["Best recovery per fault, in %:", *faults] if faults else [], tail]
    return "\n".join("\n".join(part) for part in parts if part) + "\n"


def _compact(cells: Grid, width: int, room: int) -> list[str]:
    """Gains of accuracy and constraint accuracy in points, a row per method that ran; what does not
    fit is named.
    """
    places = healthy(cells)
    if not places:
        return []
    ran = list(by_gain(cells, places))
    methods = [m for m in ran if not _beside(m)]
    for fit in range(min(len(places), 6), 0, -1):
        lines = _lines(cells, places[:fit], methods)
        if fit == 1 or max(map(len, lines)) <= width:
            break
    head, rows = lines[:HEAD], lines[HEAD:]
    kept = rows[: max(3, room - HEAD - 2)]
    more = {
        "methods": len(rows) - len(kept),
        "controls on other sources": len(ran) - len(methods),
        "subjects": len(places) - fit,
    }
    left = ", ".join(f"{n} more {what}" for what, n in more.items() if n)
    return [
        "Gains in points:",
        *(line[:width] for line in head + kept),
        *([f"... {left}: table1.txt"] if left else []),
    ]


def _beside(method: str) -> bool:
    """Whether it is fine-tuning on the sources of a method (`finetune[failing+passing]`), which
    stands beside that method elsewhere.
    """
    return split_variant(method)[0] in CONTROLS and setting_of(method) not in ("", TUNED)


def _lines(cells: Grid, shown: Sequence[Column], methods: Sequence[str]) -> list[str]:
    """The compact table: HEAD lines of heading, then a line per method."""
    rows = [[method_title(m), *(text for p in shown for text in _texts(cells, p, m))] for m in methods]
    heads = [
        "",
        *(
            text
            for p in shown
            for text in (f"{dataset_title(p[0])[:13]}\n{model_title(p[1])[:13]}\nacc.", "\n\nconst.")
        ),
    ]
    align = ["left", *["right"] * (2 * len(shown))]
    table: str = tabulate(rows, heads, tablefmt="simple", disable_numparse=True, colalign=align)
    return table.splitlines()


def _texts(cells: Grid, place: Column, method: str) -> Iterator[str]:
    for metric in (METRIC, "constraint"):
        found = gained(cells, place, method, metric)
        yield fixed(found.mean, 2, True) if found else "-"


def _faults(cells: Grid) -> Iterator[str]:
    """Per fault the three methods with the best recovery, of those that Table II compares."""
    for place in [p for p in cells.columns if p in faulty(cells)]:
        found = {
            m: sample(cells.cell(place, m), partial(score, metric="recovery"), 100) for m in cells.methods
        }
        means = comparable(cells, place, found)
        best = sorted(means, key=lambda m: -means[m])[:3]
        listed = ", ".join(f"{method_title(m)} {fixed(means[m], 0)}" for m in best)
        yield f"{'-'.join(place)}: {listed or ('none' if any(found.values()) else 'not measured')}"
