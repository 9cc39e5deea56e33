"""Table III: is it the idea? Per subject and method the gain minus the gain with the method's idea
off, and minus the control's.

The idea is off in the method's ablations (`apricot[random_sets]`), which are cells of their own.
The control is the last kept state of fine-tuning on the method's sources that has seen no more
training images; a method below its first state is compared with a random change of the same norm,
or, if it changed nothing, with the subject. A method whose options were chosen by trials is compared
with the tuned fine-tuning as well, and is better (or worse) than its control if it is than both.
All are paired seed by seed, accuracy also image by image; p is the larger one of two tests
(statistics.py), corrected by Holm's procedure within the table and metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from airepair.case import split_variant
from airepair.records import SAME_NORM, Record
from airepair.report.cells import Grid, ablation, gain, sample
from airepair.report.claims import claims
from airepair.report.comparison import LEVEL, Comparison, fewest_seeds, holm
from airepair.report.facts import by_trials, marked, wreck_note
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.paired import bounds, interval, p_text
from airepair.report.pairs import Answers, after, at_phase, before, compared
from airepair.report.states import (
    TUNED_FINETUNE,
    control_of,
    largest_within,
    search,
    trained,
    tuned_control_of,
)
from airepair.report.table import Entry, Heading, Row, Table, Tidy, fixed, spread
from airepair.report.twins import (
    Twins,
    ablation_lines,
    ablation_pairs,
    is_the_method,
    listed_lines,
    once,
    twins,
)

METRICS = {"accuracy": "Acc.", "constraint": "Const."}
IDEA, CONTROL = "idea off", "control"


@dataclass(frozen=True)
class Question:
    """It is one comparison of a method in one column and metric: with its idea off (`against` names
    the ablation), or with its control.
    """

    place: Column
    method: str
    metric: str
    kind: str
    against: str
    found: Comparison
    p: float = 1.0

    @property
    def beside_random(self) -> bool:
        """Whether the control, of some seed at least, is a random change: too few images for a state of
        fine-tuning.
        """
        return self.kind == CONTROL and SAME_NORM in self.against

    @property
    def beside_tuned(self) -> bool:
        """Whether the control is the tuned fine-tuning."""
        return self.kind == CONTROL and TUNED_FINETUNE in self.against

    @property
    def sign(self) -> int:
        """1 if the method is significantly better, -1 if it is significantly worse, else 0."""
        return 0 if self.p >= LEVEL else 1 if self.found.difference > 0 else -1


def table3(cells: Grid) -> Table | None:
    """Returns Table III of the records; None if no method has an ablation among them."""
    if not any(map(ablation, cells.records)):
        return None
    comparisons = questions(cells)
    rows = tuple(_rows(cells, comparisons))
    headings = (
        Heading("", "gain"),
        Heading("Minus the gain with the idea off", "which"),
        *(Heading("Minus the gain with the idea off", t) for t in ("points", "95 % interval", "p")),
        Heading("Minus fine-tuning on the same sources", "which"),
        *(Heading("Minus fine-tuning on the same sources", t) for t in ("points", "95 % interval", "p")),
    )
    notes = (
        "Fine-tuning on the same sources: its last kept state with at most as many training images; "
        "if even its first state used more,"
        " the method is compared with a random change of the same norm. p is the larger of a bootstrap "
        "over seeds and images and a"
        f" permutation test over seeds, with Holm's correction over all comparisons of a metric in this "
        f"table; bold: below {LEVEL:g}.",
        *filter(None, (search([cells]),)),
        *wreck_note(cells),
        *summary(comparisons, twins(cells)),
        *ablation_lines(cells),
        *_without_method(cells),
        *_about_controls(cells),
    )
    title = "Table III: is it the idea? Differences of gains in percentage points"
    stub, lines, tidy = ("Subject", "Method", "Metric"), claims(cells, METRICS), tuple(_tidy(comparisons))
    return Table("table3", title, stub, headings, rows, notes, lines, tidy, "significant differences")


def questions(cells: Grid) -> list[Question]:
    """Returns every comparison of the table, with Holm's correction within each metric."""
    found = [
        q
        for place in cells.columns
        for method in _methods(cells, place)
        for m in METRICS
        for q in _questions(cells, place, method, m)
    ]
    corrected: list[Question] = []
    for metric in METRICS:
        family = [q for q in found if q.metric == metric]
        p = holm([q.found.p for q in family])
        corrected += [
            Question(q.place, q.method, q.metric, q.kind, q.against, q.found, v)
            for q, v in zip(family, p, strict=True)
        ]
    order = {(q.place, q.method, q.metric, q.kind, q.against): i for i, q in enumerate(found)}
    return sorted(corrected, key=lambda q: order[q.place, q.method, q.metric, q.kind, q.against])


def _methods(cells: Grid, place: Column) -> list[str]:
    """Those with an ablation in this column, in the order of the rows; if nothing has one, those
    whose sources are known.
    """
    having = {r.case.base_method for r in cells.of(place) if ablation(r)}
    if not any(map(ablation, cells.records)):
        having = {r.case.method for r in cells.of(place) if r.sources and r.category != "control"}
    return [m for m in cells.methods if m in having]


def _questions(cells: Grid, place: Column, method: str, metric: str) -> Iterator[Question]:
    own = {r.case.seed: r for r in cells.cell(place, method) if r.status == "repaired"}
    for other in cells.methods:
        base, variant = split_variant(other)
        pairs = ablation_pairs(cells, place, other) if base == method else []
        questioned = [(after(r), after(a)) for a, r in pairs if not is_the_method(a, r)]
        if found := compared(questioned, metric):
            yield Question(place, method, metric, IDEA, variant, found)
    for beside in (_control, _tuned_control):
        states = {
            seed: (name, answers)
            for seed, record in own.items()
            for name, answers in beside(cells, place, record)
        }
        if found := compared([(after(own[seed]), answers) for seed, (_, answers) in states.items()], metric):
            names = " / ".join(sorted({name for name, _ in states.values()}))
            yield Question(place, method, metric, CONTROL, names, found)


def _tuned_control(cells: Grid, place: Column, record: Record) -> Iterator[tuple[str, Answers]]:
    """The second control of one seed and its name, if it has one."""
    control = tuned_control_of(cells, place, record)
    if control is not None and (state := largest_within(control, trained(record))) is not None:
        yield f"{TUNED_FINETUNE}, {state.name}", at_phase(control, state)


def _control(cells: Grid, place: Column, record: Record) -> Iterator[tuple[str, Answers]]:
    """The control of one seed and its name, if it has one: a random change only if fine-tuning has no
    state that small.
    """
    (name, control), images = control_of(cells, place, record), trained(record)
    if images and control is None:
        return
    if control is not None and images and (state := largest_within(control, images)) is not None:
        yield f"{name}, {state.name}", at_phase(control, state)
    elif random := next((p for p in record.phases if p.name == SAME_NORM), None):
        yield SAME_NORM, at_phase(record, random)
    elif record.subject.get("repaired_weights") == record.subject.get("weights") is not None:
        yield SAME_NORM, before(record)


def _about_controls(cells: Grid) -> list[str]:
    """Sentences: which methods trained, but have no fine-tuning on their sources to be compared with; and
    which have options that were chosen by trials, but no control with such.
    """
    absent, alone = dict[str, list[str]](), dict[str, list[str]]()
    for place in cells.columns:
        for method in _methods(cells, place):
            ran = [r for r in cells.cell(place, method) if r.status == "repaired" and trained(r)]
            beside = [(r, control_of(cells, place, r)[1]) for r in ran]
            if n := sum(control is None for _, control in beside):
                seeds = "" if n == len(ran) else f", {n} of {len(ran)} seeds"
                absent.setdefault(method, []).append("-".join(place) + seeds)
            if any(
                by_trials(r) and control and not by_trials(control) and not tuned_control_of(cells, place, r)
                for r, control in beside
            ):
                alone.setdefault(method, []).append("-".join(place))
    return listed_lines(
        {
            "Not compared with fine-tuning on the same sources, which has no result": absent,
            "Options chosen by trials on validation, beside a fine-tuning that chose its learning rate "
            "alone": alone,
        }
    )


def _without_method(cells: Grid) -> list[str]:
    """A sentence: the ablations whose method has no result in the column, with their gain in accuracy."""
    found: dict[str, list[str]] = {}
    for place in cells.columns:
        for name in cells.methods:
            own = sample(filter(ablation, cells.cell(place, name)), partial(gain, metric="accuracy"), 100)
            method = cells.cell(place, split_variant(name)[0])
            if own and not any(r.status == "repaired" for r in method):
                found.setdefault(name, []).append(f"{'-'.join(place)}: {spread(own, sign=True)}")
    return listed_lines({"Without a row, since the method itself has no result (gain in accuracy)": found})


def _rows(cells: Grid, comparisons: list[Question]) -> Iterator[Row]:
    """One row for each ablation, or control, of a method and metric; the gain stands in the first."""
    groups: dict[tuple[Column, str, str], list[Question]] = {}
    for q in comparisons:
        groups.setdefault((q.place, q.method, q.metric), []).append(q)
    last = ""
    for (place, method, metric), found in groups.items():
        ideas, controls = ([q for q in found if q.kind == kind] for kind in (IDEA, CONTROL))
        own = sample(cells.cell(place, method), partial(gain, metric=metric), 100)
        subject = f"{dataset_title(place[0])} {model_title(place[1])}"
        n = own.n if own else 0
        for k in range(max(1, len(ideas), len(controls))):
            first = Entry(spread(own, sign=True) if own and not k else "")
            idea, control = ideas[k : k + 1], controls[k : k + 1]
            labels = (
                subject,
                marked(method_title(method), cells.cell(place, method)) if not k else "",
                METRICS[metric] if not k else "",
            )
            entries = (first, *_entries(idea, n), *_entries(control, n))
            yield Row(labels, entries, rule=not k and subject != last)
            last = subject


def _entries(found: list[Question], seeds: int) -> tuple[Entry, ...]:
    """A comparison, with its number of seeds where the gain has more."""
    if not found:
        return (Entry(""),) * 4
    q = found[0]
    bold, fewer = q.sign != 0, f" (n={q.found.n})" if q.found.n < seeds else ""
    return (
        Entry(q.against),
        Entry(fixed(100 * q.found.difference, sign=True) + fewer, bold),
        Entry(interval(q.found)),
        Entry(p_text(q.p), bold),
    )


def summary(comparisons: list[Question], alike: Twins) -> tuple[str, ...]:
    """Returns for how many methods the idea helps significantly: the method is better than every
    ablation of it in some column. Twins count once.
    """
    lines = []
    for metric, title in METRICS.items():
        about = [q for q in comparisons if q.metric == metric]
        better, worse = (by_idea(about, way, alike) for way in (1, -1))
        if not better:
            continue
        helped = [f"{method_title(m)} ({', '.join(places)})" for m, places in better.items() if places]
        lost = [f"{method_title(m)} ({', '.join(places)})" for m, places in worse.items() if places]
        line = (
            f"{title} The idea improves the repair significantly for {len(helped)} of {len(better)} "
            f"methods{_listed(helped)}"
        )
        lines.append(f"{line}; for {len(lost)} it makes the repair worse{_listed(lost)}.")
    family = max((sum(q.metric == m for q in comparisons) for m in METRICS), default=0)
    seeds, needed = max((q.found.n for q in comparisons), default=0), fewest_seeds(family)
    if seeds < needed:
        lines.append(
            f"With {seeds} seeds the permutation test cannot reach significance here; "
            f"{family} comparisons need {needed}."
        )
    return tuple(lines)


def by_idea(comparisons: Sequence[Question], way: int, alike: Twins) -> dict[str, list[str]]:
    """Returns, for each method with an ablation, twins once, the columns in which it is significantly
    better (way 1) or worse (-1) than every ablation of it; the comparisons are of one metric.
    """
    signs: dict[str, dict[Column, list[int]]] = {}
    for q in comparisons:
        if q.kind == IDEA:
            signs.setdefault(q.method, {}).setdefault(q.place, []).append(q.sign)
    methods = once(signs, {m: list(places) for m, places in signs.items()}, alike)
    return {m: ["-".join(p) for p, found in signs[m].items() if set(found) == {way}] for m in methods}


def by_control(comparisons: Sequence[Question], way: int) -> list[Question]:
    """Returns, for each method and column, the first comparison with a control if the method is
    significantly better (way 1) or worse (-1) than each of its controls; the comparisons are of one metric.
    """
    found: dict[tuple[str, Column], list[Question]] = {}
    for q in comparisons:
        if q.kind == CONTROL:
            found.setdefault((q.method, q.place), []).append(q)
    return [qs[0] for qs in found.values() if {q.sign for q in qs} == {way}]


def _listed(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _tidy(comparisons: list[Question]) -> Iterator[Tidy]:
    for q in comparisons:
        yield {
            "dataset": q.place[0],
            "model": q.place[1],
            "method": q.method,
            "metric": q.metric,
            "compared_with": q.kind,
            "which": q.against,
            "n": q.found.n,
            "difference": round(100 * q.found.difference, 6) + 0.0,
            **bounds(q.found),
            "p_holm": round(q.p, 6),
        }
