"""The verdict: what records say, in three to six sentences: which methods differ significantly from
fine-tuning and from their own ablation, what they cost and break, what was not run.

Every sentence rests on the records alone; "significantly" means p < .05 after Holm's correction (table3.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from airepair import BENCHMARK_VERSION
from airepair.records import Record
from airepair.report.cells import Grid, Sample, faulty, gain, sample, score, tuned
from airepair.report.comparison import fewest_seeds
from airepair.report.costs import COLUMNS
from airepair.report.facts import category
from airepair.report.ordering import CONTROLS, PAPER_METHODS, Column, method_title
from airepair.report.table import fixed
from airepair.report.table3 import CONTROL, Question, by_control, by_idea, questions
from airepair.report.twins import Twins, twins

METRIC = "accuracy"


def verdict(cells: Grid, comparisons: Sequence[Question] | None = None) -> list[str]:
    """Returns three to six sentences, and one about the version if it is an earlier one.

    `comparisons` are those of Table III, if they are known.
    """
    if not cells.records:
        return ["Nothing ran."]
    comparisons = questions(cells) if comparisons is None else comparisons
    about = [q for q in comparisons if q.metric == METRIC]
    found = [
        of_version(cells),
        _what_ran(cells),
        _beside_control(about),
        _ideas(about, twins(cells)),
        _cost(cells, about),
        _damage(cells),
        _not_run(cells),
    ]
    return [s for s in found if s]


def of_version(cells: Grid) -> str:
    """That numbers of another version are not this benchmark's; "" if they are of this one."""
    if cells.version == BENCHMARK_VERSION:
        return ""
    return (
        f"These records are of benchmark version {cells.version}, "
        f"this is version {BENCHMARK_VERSION}: nothing in them may be claimed."
    )


def _what_ran(cells: Grid) -> str:
    ran = [r for r in cells.records if r.status == "repaired"]
    counts = [len({r.case.seed for r in cells.of(place)}) for place in cells.columns]
    few, many = min(counts, default=0), max(counts, default=0)
    ended = Counter(r.status for r in cells.records)
    bad = ", ".join(f"{ended[s]} {s}" for s in ("failed", "crashed", "timeout", "out of memory") if ended[s])
    methods = {r.case.base_method for r in ran if r.category != "control"}
    parts = (_count(len(methods), "method"), _count(len(cells.columns), "subject"))
    seeds = f"{few} to {_count(many, 'seed')} each" if few < many else _count(many, "seed")
    return f"{_count(len(ran), 'cell')} repaired ({', '.join((*parts, seeds))})" + (
        f"; {bad}." if bad else "."
    )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _beside_control(comparisons: Sequence[Question]) -> str:
    sides = {way: by_control(comparisons, way) for way in (1, -1)}
    beside, trained = (
        {w: [q for q in qs if q.beside_random is random] for w, qs in sides.items()}
        for random in (True, False)
    )
    if not any(q.kind == CONTROL and not q.beside_random for q in comparisons):
        text = "No method was compared with fine-tuning on the same sources: plain training may do as well."
    elif not any(trained.values()):
        text = f"No method differs significantly from fine-tuning on the same sources{_power(comparisons)}."
    else:
        text = f"Better than fine-tuning on the same sources: {_sides(trained)}"
    if any(beside.values()):
        text += (
            " With fewer training images than fine-tuning's first state, better than a random change of "
            f"the same norm: {_sides(beside)}"
        )
    return text


def _sides(found: Mapping[int, Sequence[Question]]) -> str:
    better, worse = (_named(found[way]) for way in (1, -1))
    return f"{better or 'none'}." + (f" Worse: {worse}." if worse else "")


def _ideas(comparisons: Sequence[Question], alike: Twins) -> str:
    """For how many methods the idea helps, as below Table III."""
    helping = by_idea(comparisons, 1, alike)
    if not helping:
        return ""
    methods, helped = list(helping), [m for m, places in helping.items() if places]
    names = f": {', '.join(map(method_title, helped))}" if helped else ""
    return (
        f"The idea itself improves the repair significantly for {len(helped)} of {len(methods)} "
        f"methods{names}."
    )


def _power(comparisons: Sequence[Question]) -> str:
    seeds, needed = max((q.found.n for q in comparisons), default=0), fewest_seeds(len(comparisons))
    return f" ({seeds} seeds; {len(comparisons)} comparisons need {needed})" if seeds < needed else ""


def _named(found: Sequence[Question]) -> str:
    names: dict[str, list[str]] = {}
    for q in found:
        names.setdefault(method_title(q.method), []).append("-".join(q.place))
    return ", ".join(f"{m} ({', '.join(p)})" for m, p in names.items())


def _cost(cells: Grid, comparisons: Sequence[Question]) -> str:
    """What the methods that beat their control cost and break; if there are none, what the repair
    method with the largest mean gain does, of those with the most seeds.
    """
    places = healthy(cells) or cells.columns
    won = sorted(by_control(comparisons, 1), key=lambda q: q.beside_random)
    better = list(dict.fromkeys(q.method for q in won))[:3]
    if better:
        return f"The cost: {'; '.join(f'{method_title(m)} {_price(cells, places, m)}' for m in better)}."
    repairs = {m: v for m, v in by_gain(cells.plain, places).items() if _repairs(cells, m)}
    seeds = {m: sum(s.n for p in places if (s := gained(cells, p, m)) is not None) for m in repairs}
    repairs = {m: v for m, v in repairs.items() if seeds[m] == max(seeds.values())}
    if not repairs:
        return ""
    best = max(repairs, key=lambda m: repairs[m])
    if repairs[best] <= 0:
        return "No repair method gains accuracy on average over the subjects."
    gain = f"{method_title(best)}, {fixed(repairs[best], 2, True)} points"
    return f"Largest mean gain of a repair method: {gain} ({_price(cells, places, best)})."


def _price(cells: Grid, places: Sequence[Column], method: str) -> str:
    """Training images, seconds, and right answers that it breaks: from the least to the most of the
    subjects' means over seeds.
    """
    values: tuple[tuple[Callable[[Record], float | None], float, int, str], ...] = (
        (COLUMNS["training_images"][1], 1, 0, " training images"),
        (COLUMNS["seconds"][1], 1, 1, " s"),
        (partial(score, metric="break_rate"), 100, 1, " % of the right answers broken"),
    )
    parts = []
    for value, scale, digits, unit in values:
        means = [s.mean for p in places if (s := sample(cells.cell(p, method), value, scale)) is not None]
        ends = list(dict.fromkeys(f"{v:,.{digits}f}" for v in (min(means), max(means)))) if means else []
        parts += [" to ".join(ends) + unit] if ends else []
    return ", ".join(parts)


def _repairs(cells: Grid, method: str) -> bool:
    """Whether the method is no control, nor a control with settings of its own."""
    return category(cells, method) != "control" and method not in CONTROLS


def _damage(cells: Grid) -> str:
    """The methods that cost accuracy wherever they ran, and the largest cost of any method."""
    places = healthy(cells)
    found = {
        method: {p: s.mean for p in places if (s := gained(cells, p, method)) is not None}
        for method in by_gain(cells.plain, places)
        if _repairs(cells, method)
    }
    worst = min(
        ((mean, method, p) for method, means in found.items() for p, mean in means.items()), default=None
    )
    if worst is None or worst[0] >= 0:
        return ""
    losing = sorted(
        (m for m, means in found.items() if max(means.values()) < 0), key=lambda m: min(found[m].values())
    )
    counts = {
        m: "" if len(found[m]) == len(places) else f" ({len(found[m])} of {len(places)})" for m in losing
    }
    names = ", ".join(f"{method_title(m)}{counts[m]}" for m in losing)
    always = (
        "On average over the seeds, significantly or not, these methods lose accuracy on every subject "
        f"that they ran on: {names}. "
    )
    return (
        f"{always if losing else ''}Largest mean loss: {method_title(worst[1])}, "
        f"{fixed(worst[0], 2, True)} points ({'-'.join(worst[2])})."
    )


def _not_run(cells: Grid) -> str:
    unsupported = {r.case.base_method for r in cells.records if r.status == "unsupported"}
    elsewhere = {r.case.base_method for r in cells.records if r.status == "repaired"}
    parts = []
    if count := sum(_absent(cells.plain, place) for place in cells.columns):
        parts.append(f"{_count(count, 'cell')} that {'was' if count == 1 else 'were'} not run")
    for names, where in (
        (unsupported - elsewhere, "wherever they were tried"),
        (unsupported & elsewhere, "on some subjects"),
    ):
        if names:
            parts.append(f"unsupported {where}: {', '.join(map(method_title, sorted(names)))}")
    return f"Not in the table: {'; '.join(parts)}." if parts else ""


def _absent(cells: Grid, place: Column) -> int:
    """How many cells the column lacks: each seed of it at which a method has no record. A column without a
    tuned row was not tuned and lacks none.
    """
    here = cells.of(place)
    seeds, was_tuned = {r.case.seed for r in here}, any(tuned(r.case.method) for r in here)
    methods = [m for m in cells.methods if was_tuned or not tuned(m)]
    return sum(len(seeds - {r.case.seed for r in cells.cell(place, m)}) for m in methods)


def gained(cells: Grid, place: Column, method: str, metric: str = METRIC) -> Sample | None:
    """Returns the gain in points, one number per seed."""
    return sample(cells.cell(place, method), partial(gain, metric=metric), 100)


def _means(cells: Grid, places: Sequence[Column], method: str) -> list[float]:
    return [s.mean for p in places if (s := gained(cells, p, method)) is not None]


def by_gain(cells: Grid, places: Sequence[Column]) -> dict[str, float]:
    """Returns the methods with a gain in some of the columns, and its mean over them: the paper's
    three first, then the largest.
    """
    means = {m: sum(found) / len(found) for m in cells.methods if (found := _means(cells, places, m))}
    paper = list(PAPER_METHODS)
    return dict(
        sorted(means.items(), key=lambda kv: (paper.index(kv[0]) if kv[0] in paper else len(paper), -kv[1]))
    )


def healthy(cells: Grid) -> list[Column]:
    """Returns the columns of Table I: those whose subject has no fault."""
    return [p for p in cells.columns if p not in faulty(cells)]
