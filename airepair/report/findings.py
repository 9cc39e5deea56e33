"""The findings: what the committed records allow to be claimed, and nothing else.

A claim needs SEEDS seeds in each arithmetic (portable and native), and in each of them a difference
from zero in the same direction whose p is below LEVEL after Holm's correction within its table and
metric; p is the larger one of a bootstrap and a permutation test (statistics.py). Tuned rows take no
part (on digits their settings have seen images that other seeds test on), but a method whose open
options were chosen in the same way has the tuned fine-tuning as a second control. Which columns take part is
decided by their number of seeds alone, so that no column joins or leaves a family for its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from airepair.records import SAME_NORM, Record, version
from airepair.report.cells import Grid, baseline, column, grid, tuned
from airepair.report.comparison import LEVEL, Comparison, holm
from airepair.report.leads import leads
from airepair.report.markdown import escape, markdown
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.paired import interval, p_text
from airepair.report.pairs import after, before, compared
from airepair.report.states import search
from airepair.report.table import Entry, Heading, Row, Table, fixed
from airepair.report.table1 import METRICS
from airepair.report.table3 import CONTROL, IDEA, questions
from airepair.report.twins import counted_once, lines, twins

SEEDS = 20
ARITHMETICS = ("portable", "native")
LEFT_OUT = (
    "Rows with tuned settings are not judged: on digits seeds share images, so the settings were chosen on "
    "some images\nthat are test images here ([tuning.md](tuning.md)). The few open defaults of digits were "
    "chosen in the same way; the\nmethods that have them are judged all the same.\n"
)
TUNED_CONTROL = "tuned fine-tuning"
NAMES = {"accuracy": "accuracy", "constraint": "constraint accuracy"}
Key = tuple[str, str, Column, str, str]  # section, metric, column, method, compared with


@dataclass(frozen=True)
class Section:
    """It holds one table's claims; `what` completes "N of M comparisons differ significantly from zero"."""

    name: str
    title: str
    says: str


SECTIONS = (
    Section(
        "idea",
        "Is it the idea? (Table III)",
        "The gain of a method minus its gain with its own idea switched off.",
    ),
    Section(
        "control",
        "Beyond fine-tuning? (Table III)",
        "The gain of a method minus that of fine-tuning on the same sources at as many images; of a method "
        "with fewer images than fine-tuning's first state, minus that of a random change of the same norm. "
        "A method whose open options were chosen by trials stands beside the tuned fine-tuning as well, if "
        "it was run; it is better than fine-tuning only if it is better than both.",
    ),
    Section(
        "gain", "What repairs at all? (Table I)", "The score after the repair minus the score before it."
    ),
    Section(
        "lead",
        "Which method is best? (Table I)",
        "The gain of the best method of a column minus that of the second.",
    ),
)


@dataclass(frozen=True)
class Claim:
    """It holds one comparison in one arithmetic, and its p after Holm's correction."""

    found: Comparison
    p: float

    @property
    def sign(self) -> int:
        """Returns 1 above zero, -1 below, 0 if it does not differ significantly from zero."""
        return 0 if self.found.n < SEEDS or self.p >= LEVEL else 1 if self.found.difference > 0 else -1


def findings(records: Iterable[Record], sources: str) -> str:
    """Returns the page as Markdown; `sources` names the records that it is made of."""
    given = list(records)
    newest = max(map(version, given), default=None)
    found = [r for r in given if version(r) == newest]
    grids = {a: grid([r for r in found if r.provenance.get("arithmetic") == a]) for a in ARITHMETICS}
    enough = [p for p in grids[ARITHMETICS[0]].columns if all(_seeds(g, p) >= SEEDS for g in grids.values())]
    chosen = [
        g.where(lambda r: column(r) in enough and (_untuned(r) or r.category == "control"))
        for g in grids.values()
    ]
    claims = [_claims(counted_once(g)) for g in chosen]
    alike = dict.fromkeys(line for g in chosen for line in lines(twins(g)))
    parts = [
        _head(sources, newest),
        *([LEFT_OUT] if any(tuned(r.case.method) for r in found) else []),
        *(f"{escape(line)}\n" for line in alike),
        *(_section(s, claims, chosen) for s in SECTIONS),
    ]
    parts.append(_rest(found, enough))
    return "\n".join(parts)


def _untuned(record: Record) -> bool:
    return not tuned(record.case.method)


def _seeds(cells: Grid, place: Column) -> int:
    found = baseline(cells.of(place), "accuracy")
    return found.n if found else 0


def _claims(cells: Grid) -> dict[Key, Claim]:
    """Every comparison of one arithmetic. Both kinds of Table III are one family per metric."""
    found: dict[Key, Claim] = {}
    for q in questions(cells):
        kind = {IDEA: "idea", CONTROL: "control"}[q.kind]
        beside = SAME_NORM if q.beside_random else TUNED_CONTROL if q.beside_tuned else "fine-tuning"
        against = q.against if q.kind == IDEA else beside
        found[kind, q.metric, q.place, q.method, against] = Claim(q.found, q.p)
    plain = cells.plain.where(_untuned)
    for metric in METRICS:
        gains = dict(_gains(plain, metric))
        for (key, comparison), p in zip(gains.items(), holm([c.p for c in gains.values()]), strict=True):
            found[key] = Claim(comparison, p)
        for lead in leads(plain, metric):
            found["lead", metric, lead.place, lead.first, lead.second] = Claim(lead.found, lead.p)
    return found


def _gains(cells: Grid, metric: str) -> Iterator[tuple[Key, Comparison]]:
    for place in cells.columns:
        for method in cells.methods:
            ran = [r for r in cells.cell(place, method) if r.status == "repaired"]
            found = compared([(after(r), before(r)) for r in ran], metric) if method != "noop" else None
            if found:
                yield ("gain", metric, place, method, "the subject"), found


def _head(sources: str, newest: int | None) -> str:
    return (
        "# What the records allow to be claimed\n\n"
        f"Written by `airepair findings {sources}` from records of benchmark version {newest}; "
        f"not edited by hand.\n\n"
        f"A claim is listed if its difference from zero is significant over at least {SEEDS} seeds, "
        f"in portable **and** in native arithmetic:\n"
        f"p below {LEVEL:g} after Holm's correction within its table and metric; "
        f"p is the larger of a bootstrap and a permutation test\n"
        "([reports.md](reports.md)). Differences are in percentage points, with their 95 % intervals. "
        "Claims hold over splits of these data\n"
        "sets and for these small networks. A difference that is not significant here may exist all the "
        "same.\n"
    )


def _section(section: Section, claims: list[dict[Key, Claim]], grids: list[Grid]) -> str:
    first, second = claims
    shared = [k for k in first if k[0] == section.name and k in second]
    agreed = [k for k in shared if first[k].sign and first[k].sign == second[k].sign]
    lines = [f"## {section.title}", "", section.says, ""]
    if section.name == "control" and (apart := search(grids)):
        lines += [apart, ""]
    for metric, name in NAMES.items():
        of_metric = [k for k in shared if k[1] == metric]
        claimed = [k for k in agreed if k[1] == metric]
        if not of_metric:
            lines += [
                f"{name.capitalize()}: no comparison has {SEEDS} seeds in both arithmetics, "
                f"so nothing can be claimed.",
                "",
            ]
            continue
        lines += [
            f"{name.capitalize()}: {len(claimed)} of {len(of_metric)} comparisons are "
            f"significant.{_ideas(of_metric, first, agreed)}",
            "",
        ]
        if claimed:
            lines += [markdown(_table(section, name, claimed, claims))]
        if left := _names(k for k in of_metric if k not in claimed):
            lines += [f"Not significant: {left}.", ""]
    return "\n".join(lines)


def _ideas(asked: list[Key], first: Mapping[Key, Claim], agreed: list[Key]) -> str:
    """For how many methods the idea helps significantly: the method is better than each of its
    ablations in a column.
    """
    if asked[0][0] != "idea":
        return ""
    groups: dict[tuple[str, Column], list[Key]] = {}
    for key in asked:
        groups.setdefault((key[3], key[2]), []).append(key)
    better = {m for (m, _), keys in groups.items() if all(k in agreed and first[k].sign > 0 for k in keys)}
    return (
        f" The idea improves the repair significantly for {len(better)} of "
        f"{len({m for m, _ in groups})} methods."
    )


def _table(section: Section, name: str, keys: list[Key], claims: list[dict[Key, Claim]]) -> Table:
    rows = tuple(
        Row(
            (_subject(k[2]), method_title(k[3]), method_title(k[4])),
            tuple(e for found in claims for e in _entries(found[k])),
        )
        for k in keys
    )
    headings = tuple(Heading(a, t) for a in ARITHMETICS for t in ("points", "95 % interval", "p"))
    return Table(
        section.name,
        f"{section.title.partition(' (')[0]} {name.capitalize()}",
        ("Subject", "Method", "Compared with"),
        headings,
        rows,
    )


def _entries(claim: Claim) -> Iterator[Entry]:
    yield from map(
        Entry, (fixed(100 * claim.found.difference, sign=True), interval(claim.found), p_text(claim.p))
    )


def _subject(place: Column) -> str:
    return f"{dataset_title(place[0])} {model_title(place[1])}"


def _names(keys: Iterable[Key]) -> str:
    """Methods with their columns, and what they were compared with if there are several."""
    by_column: dict[Column, list[str]] = {}
    for kind, _, place, method, against in keys:
        named = kind == "idea" or against == TUNED_CONTROL
        label = f"{method_title(method)} ({against})" if named else method_title(method)
        by_column.setdefault(place, []).append(label)
    return "; ".join(f"{escape(_subject(p))}: {escape(', '.join(names))}" for p, names in by_column.items())


def _rest(records: list[Record], enough: list[Column]) -> str:
    """The columns that no claim is made of, with their seeds in each arithmetic."""
    seeds: dict[Column, dict[str, set[int]]] = {}
    for record in records:
        found = seeds.setdefault(column(record), {}).setdefault(
            str(record.provenance.get("arithmetic") or "arithmetic not recorded"), set()
        )
        found.add(record.case.seed)
    lines = [f"{'-'.join(p)} ({_counts(found)})" for p, found in seeds.items() if p not in enough]
    text = ", ".join(map(escape, lines)) or "none"
    return f"## Columns without a claim\n\nFewer than {SEEDS} seeds, or one arithmetic only: {text}.\n"


def _counts(seeds: Mapping[str, set[int]]) -> str:
    return ", ".join(f"{name}: n = {len(found)}" for name, found in sorted(seeds.items()))
