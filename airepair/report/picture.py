"""The picture: per subject the net change of every method against its training images, with 95 %
intervals and the Pareto front.

`points` says what is drawn, from records alone; `picture` is the SVG, of the subjects with the most
seeds. The dashed line goes through the states that `finetune` kept: what plain training gives for
as many images. A point is on the front if no other point, and no state of finetune, has a larger
net change for as few images. What lacks seeds of another is no rival: they may be the lucky ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from airepair.records import Record
from airepair.report.cells import Grid, faulty
from airepair.report.facts import category, marked, wrecked
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.pairs import after, before, compared
from airepair.report.picture_panel import HEIGHT, ROLES, WIDTH, Panel, Point, State, panel
from airepair.report.states import trained
from airepair.report.templates import template

PANEL = (WIDTH, HEIGHT)
PANELS = 4  # of more subjects Table I has the numbers
TRACK = "finetune"


def points(cells: Grid, place: Column) -> tuple[list[Point], list[State]]:
    """Returns the methods as they are, neither tuned nor swept, that have a result in the column,
    and the states of finetune by their images.
    """
    plain = [m for m in cells.methods if "[" not in m]
    found = [
        p
        for m in plain
        if (p := _point(cells, m, [r for r in cells.cell(place, m) if r.status == "repaired"]))
    ]
    track = _track([r for r in cells.cell(place, TRACK) if r.status == "repaired"])
    whole, rivals = _rivals(found, track)
    most = max((p.n for p in found), default=0)
    return [
        replace(
            p,
            front=p in whole and on_front((p.images, p.change), rivals),
            title=p.title if p.n == most else f"{p.title} (n={p.n})",
        )
        for p in found
    ], track


def _rivals(found: Sequence[Point], track: list[State]) -> tuple[list[Point], list[State]]:
    """The points that may be on the front, none that wrecks the model or lacks a seed of another, and
    what they are compared with: each other, and finetune's states if they lack none.
    """
    most = max((p.n for p in found if not p.wrecks), default=0)
    whole = [p for p in found if not p.wrecks and p.n == most]
    kept = track if any(p.method == TRACK and p.n >= most for p in found) else []
    return whole, [*((p.images, p.change) for p in whole), *kept]


def _point(cells: Grid, method: str, ran: Sequence[Record]) -> Point | None:
    found = compared([(after(r), before(r)) for r in ran], "accuracy")
    if found is None:
        return None
    images = sum(map(trained, ran)) / len(ran)
    low, high = (None if bound is None else 100 * bound for bound in (found.low, found.high))
    title = marked(method_title(method), ran)
    change = round(100 * found.difference, 6)
    return Point(method, title, category(cells, method), images, change, low, high, found.n, wrecked(ran))


def _track(ran: Sequence[Record]) -> list[State]:
    """The states that every one of these records kept, and the last one."""
    found: dict[str, list[State]] = {}
    for record in ran:
        start = record.before.get("accuracy")
        states = [*((p.name, p.images, p.scores) for p in record.phases), ("", trained(record), record.after)]
        for name, images, scores in states:
            if start is not None and "accuracy" in scores:
                found.setdefault(name, []).append((float(images), 100 * (scores["accuracy"] - start)))
    whole = [kept for kept in found.values() if len(kept) == len(ran)]
    return sorted(
        (sum(i for i, _ in kept) / len(kept), round(sum(c for _, c in kept) / len(kept), 6)) for kept in whole
    )


def on_front(own: State, rivals: Sequence[State]) -> bool:
    """Whether none of the rivals is at least as good in both, images and change, and better in one."""
    return not any(
        images <= own[0] and change >= own[1] and (images, change) != own for images, change in rivals
    )


def shown(cells: Grid) -> list[Column]:
    """Returns the columns of the picture: those without a fault, if there are such, with the most
    seeds; in the order of the tables.
    """
    places = [p for p in cells.columns if p not in faulty(cells)] or cells.columns
    seeds = {p: len({r.case.seed for r in cells.of(p) if r.status == "repaired"}) for p in places}
    most = sorted((p for p in places if seeds[p]), key=lambda p: -seeds[p])[:PANELS]
    return [p for p in places if p in most]


def panels(cells: Grid) -> list[Panel]:
    """Returns the panels of the picture; none if nothing ran."""
    drawn = []
    for place in shown(cells):
        found, track = points(cells, place)
        if found:
            n = max(p.n for p in found)
            title = f"{dataset_title(place[0])} {model_title(place[1])}, {n} seed{'s' * (n > 1)}"
            rivals = _rivals(found, track)[1]
            best = [s for s in track if s in rivals and on_front(s, rivals)]
            drawn.append(panel(title, found, track, best))
    return drawn


def legend(drawn: Sequence[Panel]) -> list[tuple[str, str, int]]:
    """Returns, for each category in the panels, its role, its name and where it stands in the legend."""
    found, at = [], 14
    for name, role in ROLES.items():
        if any(m.role == role for p in drawn for m in p.marks):
            found.append((role, name, at))
            at += 28 + round(5.6 * len(name))
    return found


def notes(cells: Grid) -> Iterator[str]:
    """How the picture is read, and what it leaves out."""
    yield (
        "Net change: fixed minus broken test inputs, in percentage points; mean over seeds. Bars: "
        "95 % interval over seeds and test images."
        " Filled points: the Pareto front (stepped line): nothing else has a larger net change for as "
        "few training images."
        " Dashed: the states that finetune kept."
    )
    left = len([p for p in cells.columns if p not in faulty(cells)]) - len(shown(cells))
    if left > 0:
        yield f"The subjects with the most seeds; {left} more: Table I."


def picture(cells: Grid) -> str:
    """Returns the picture as one SVG file, two panels per row; it says so if nothing ran."""
    drawn = panels(cells)
    text = template("picture.svg.j2").render(
        panels=drawn,
        legend=legend(drawn),
        width=WIDTH,
        height=HEIGHT,
        rows=-(-len(drawn) // 2),
        version=cells.version,
        notes=list(notes(cells)),
        whole=True,
    )
    return text.strip() + "\n"
