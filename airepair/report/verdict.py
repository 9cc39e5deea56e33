"""The verdict: what a run says, on one screen. Three to six sentences, Table I compact, a line per fault, where the rest is.

Every sentence rests on the records alone; "can be told" means p < .05 after Holm's correction (table3.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from tabulate import tabulate

from airepair.report.claims import missing_cells
from airepair.report.grid import Grid, Sample, faulty, gain, sample, score
from airepair.report.layout import fixed
from airepair.report.order import CONTROLS, PAPER_METHODS, Column, dataset_title, method_title, model_title
from airepair.report.statistics import fewest_seeds
from airepair.report.table3 import CONTROL, IDEA, Question, questions

WIDTH, LINES = 80, 60
HEAD = 4  # lines of the compact table's heading
METRIC = "accuracy"


def verdict(cells: Grid, asked: Sequence[Question] | None = None) -> list[str]:
    """Three to six sentences. `asked` are Table III's comparisons, if they are known already."""
    if not cells.records:
        return ["Nothing ran."]
    asked = questions(cells) if asked is None else asked
    about = [q for q in asked if q.metric == METRIC]
    found = [_what_ran(cells), _beside_control(about), _ideas(about), _damage(cells), _not_run(cells)]
    return [s for s in found if s]


def _what_ran(cells: Grid) -> str:
    ran = [r for r in cells.records if r.status == "repaired"]
    seeds = {r.case.seed for r in cells.records}
    counts = {s: sum(r.status == s for r in cells.records) for s in ("failed", "crashed", "timeout", "out of memory")}
    bad = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
    methods = {r.case.base_method for r in ran if r.category != "control"}
    where = f"{len(cells.columns)} subject{'s' if len(cells.columns) > 1 else ''}"
    return f"{len(ran)} cells repaired ({len(methods)} methods, {where}, {len(seeds)} seeds)" + (f"; {bad}." if bad else ".")


def _beside_control(asked: Sequence[Question]) -> str:
    compared = [q for q in asked if q.kind == CONTROL]
    if not compared:
        return "No method has fine-tuning on the same sources beside it: whether plain training does as well is open."
    better, worse = (_named([q for q in compared if q.told == way]) for way in (1, -1))
    if not better and not worse:
        return f"No method can be told from fine-tuning on the same sources{_power(asked)}."
    said = f"Better than fine-tuning on the same sources: {better or 'none'}."
    return said + (f" Worse: {worse}." if worse else "")


def _ideas(asked: Sequence[Question]) -> str:
    ideas = [q for q in asked if q.kind == IDEA]
    methods = list(dict.fromkeys(q.method for q in ideas))
    if not methods:
        return ""
    places = {m: list(dict.fromkeys(q.place for q in ideas if q.method == m)) for m in methods}
    told = [m for m in methods if any(all(q.told == 1 for q in ideas if q.method == m and q.place == p) for p in places[m])]
    names = f": {', '.join(map(method_title, told))}" if told else ""
    return f"The idea itself can be told from its absence for {len(told)} of {len(methods)} methods{names}."


def _power(asked: Sequence[Question]) -> str:
    seeds, needed = max((q.found.n for q in asked), default=0), fewest_seeds(len(asked))
    return f" ({seeds} seeds; it takes {needed} for {len(asked)} comparisons)" if seeds < needed else ""


def _named(found: Sequence[Question]) -> str:
    names: dict[str, list[str]] = {}
    for q in found:
        names.setdefault(method_title(q.method), []).append("-".join(q.place))
    return ", ".join(f"{m} ({', '.join(p)})" for m, p in names.items())


def _damage(cells: Grid) -> str:
    """The methods that cost accuracy wherever they ran, and the largest cost."""
    places = [p for p in cells.columns if p not in faulty(cells)]
    losses: dict[str, float] = {}
    for method in _methods(cells, places):
        means = [s.mean for p in places if (s := _gain(cells, p, method)) is not None]
        if means and max(means) < 0 and method not in CONTROLS:
            losses[method] = min(means)
    if not losses:
        return ""
    worst = min(losses, key=lambda m: losses[m])
    names = ", ".join(method_title(m) for m in sorted(losses, key=lambda m: losses[m]))
    return f"Accuracy is lost wherever they ran by {names}; most by {method_title(worst)}: {fixed(losses[worst], 2, True)} points."


def _not_run(cells: Grid) -> str:
    absent = missing_cells(cells.plain)
    unsupported = sorted({r.case.base_method for r in cells.records if r.status == "unsupported"})
    parts = []
    if count := sum(len(m) for m in absent.values()):
        parts.append(f"{count} cells were not run")
    if unsupported:
        parts.append(f"unsupported somewhere: {', '.join(map(method_title, unsupported))}")
    return f"Not in the table: {'; '.join(parts)}." if parts else ""


def _gain(cells: Grid, place: Column, method: str) -> Sample | None:
    return sample(cells.cell(place, method), partial(gain, metric=METRIC), 100)


def _methods(cells: Grid, places: Sequence[Column]) -> list[str]:
    """Those with a number in some of the columns: the paper's three first, then by the mean gain."""

    def key(method: str) -> tuple[int, float]:
        means = [s.mean for p in places if (s := sample(cells.cell(p, method), partial(gain, metric=METRIC))) is not None]
        paper = list(PAPER_METHODS).index(method) if method in PAPER_METHODS else len(PAPER_METHODS)
        return paper, -(sum(means) / len(means))

    ran = [m for m in cells.methods if any(r.status == "repaired" for p in places for r in cells.cell(p, m))]
    return sorted(ran, key=key)


def short(cells: Grid, paths: Sequence[str] = (), width: int = WIDTH, lines: int = LINES) -> str:
    """The verdict, Table I compact, a line per fault and the paths, at most `lines` lines of at most `width` characters."""
    wrap = partial(textwrap.wrap, width=width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    head = [line for sentence in verdict(cells) for line in wrap(sentence)]
    faults = [textwrap.shorten(line, width, placeholder=" ...") for line in _faults(cells.plain)]
    tail = [line for path in paths for line in wrap(path)]
    room = lines - len(head) - len(tail) - min(len(faults), 10) - 3
    table = _compact(cells.plain, width, room)
    parts = [head, table, faults[:10], tail]
    return "\n".join("\n".join(part) for part in parts if part) + "\n"


def _compact(cells: Grid, width: int, room: int) -> list[str]:
    """Gains of accuracy and constraint accuracy in points, a row per method that ran; what does not fit is named."""
    places = [p for p in cells.columns if p not in faulty(cells)]
    if not places:
        return []
    methods = _methods(cells, places)
    for fit in range(min(len(places), 6), 0, -1):
        lines = _lines(cells, places[:fit], methods)
        if fit == 1 or max(map(len, lines)) <= width:
            break
    head, rows = lines[:HEAD], lines[HEAD:]
    kept = rows[: max(3, room - HEAD - 2)]
    more = {"methods": len(rows) - len(kept), "subjects": len(places) - fit}
    left = " and ".join(f"{n} more {what}" for what, n in more.items() if n)
    return ["Gains in points:", *(line[:width] for line in head + kept), *([f"... {left}: table1.txt"] if left else [])]


def _lines(cells: Grid, shown: Sequence[Column], methods: Sequence[str]) -> list[str]:
    """The compact table: HEAD lines of heading, then a line per method."""
    rows = [[method_title(m)[:16], *(text for p in shown for text in _texts(cells, p, m))] for m in methods]
    heads = ["", *(text for p in shown for text in (f"{dataset_title(p[0])[:13]}\n{model_title(p[1])[:13]}\nacc.", "\n\nconst."))]
    align = ["left", *["right"] * (2 * len(shown))]
    table: str = tabulate(rows, heads, tablefmt="simple", disable_numparse=True, colalign=align)
    return table.splitlines()


def _texts(cells: Grid, place: Column, method: str) -> Iterator[str]:
    for metric in (METRIC, "constraint"):
        found = sample(cells.cell(place, method), partial(gain, metric=metric), 100)
        yield fixed(found.mean, 2, True) if found else "-"


def _faults(cells: Grid) -> Iterator[str]:
    """Per fault the three methods with the best recovery."""
    for place in [p for p in cells.columns if p in faulty(cells)]:
        means = {
            m: s.mean for m in cells.methods if (s := sample(cells.cell(place, m), partial(score, metric="recovery"), 100)) is not None
        }
        best = sorted(means, key=lambda m: -means[m])[:3]
        listed = ", ".join(f"{method_title(m)} {fixed(means[m], 0)} %" for m in best)
        yield f"{'-'.join(place)}: best recovery {listed}" if best else f"{'-'.join(place)}: no recovery was measured"
