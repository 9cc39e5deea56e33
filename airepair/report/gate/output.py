"""What the gate says: a table and sentences for people, JSON for machines, a Markdown summary, a
badge (shields.io's endpoint).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from airepair.report import replace_file
from airepair.report.facts import WRECK, WRECKED
from airepair.report.gate.decision import Change
from airepair.report.gate.rules import points
from airepair.report.gate.verdict import FINE, NOT_COMPARED, REGRESSED, UNDECIDED, Finding, Verdict
from airepair.report.markdown import markdown
from airepair.report.table import Entry, Heading, Row, Table, Tidy, fixed

WORDS = {
    FINE: ("no regression", "brightgreen"),
    REGRESSED: ("regressed", "red"),
    NOT_COMPARED: ("not comparable", "lightgrey"),
    UNDECIDED: ("undecided", "yellow"),
    2: ("unreadable records", "lightgrey"),
}
HEADINGS = ("verdict", "old", "new", "change", "interval", "allowed", "n", "smallest shown")


def table(verdict: Verdict, title: str = "Comparison with a baseline") -> Table:
    """Returns a row per cell and number; below it what is wrong, in sentences, the worst first, and
    the verdict in the last line.
    """
    rows = tuple(
        Row(
            (f"{f.cell} {WRECK}" if f.wrecked else f.cell, f.name or "cell"),
            tuple(map(Entry, _entries(f))),
            rule=True,
        )
        for f in verdict.findings
    )
    notes = (
        f"Change: new minus old, in percentage points of a share. Interval: "
        f"a bound on each side at {verdict.rules.level:g}, over seeds and"
        " (accuracy) test images, not corrected for the number of rows. Smallest shown: "
        "the smallest change that this many"
        " seeds detect four times out of five.",
        *([WRECKED] if any(f.wrecked for f in verdict.findings) else []),
    )
    headings = tuple(Heading("", h) for h in HEADINGS)
    tidy: tuple[Tidy, ...] = tuple(_json(f) for f in verdict.findings)
    return Table(
        "gate",
        title,
        ("Cell", "Number"),
        headings,
        rows,
        notes,
        (*sentences(verdict), f"{headline(verdict)}."),
        tidy,
    )


def sentences(verdict: Verdict) -> list[str]:
    """What is not fine, one sentence per finding, the worst first."""
    found = [
        f
        for word in ("missing", "regressed", "not comparable", "undecided")
        for f in verdict.findings
        if f.word == word
    ]
    return [*(f"{f.word.capitalize()}: {_sentence(f)}." for f in found), *verdict.remarks]


def headline(verdict: Verdict) -> str:
    """Returns the verdict in one line, with how many cells it rests on and the exit code."""
    compared = {f.cell for f in verdict.findings if f.change}
    word = WORDS[verdict.code][0].capitalize()
    if verdict.code == FINE and len(verdict.of("same")) == len([f for f in verdict.findings if f.change]):
        word = f"Nothing changed: {verdict.of('same')[0].why.partition(': ')[2]}"
    bad = sorted({f.cell for f in verdict.of("missing", "regressed")})
    which = f" in {len(bad)} of {len({f.cell for f in verdict.findings if f.cell})} cells" if bad else ""
    return f"{word}{which}; {len(compared)} cells compared; exit code {verdict.code}"


def document(verdict: Verdict) -> dict[str, Any]:
    """Returns everything in JSON values; a bound that is infinite is null."""
    return {
        "exit_code": verdict.code,
        "verdict": WORDS[verdict.code][0],
        "level": verdict.rules.level,
        "findings": [_json(f) for f in verdict.findings],
        "remarks": list(verdict.remarks),
        "refused": list(verdict.refused),
    }


def badge(verdict: Verdict) -> dict[str, Any]:
    """Returns the file that https://shields.io/badges/endpoint-badge reads."""
    message, colour = WORDS[verdict.code]
    return {"schemaVersion": 1, "label": "repair", "message": message, "color": colour}


def write(verdict: Verdict, folder: Path) -> list[Path]:
    """Writes gate.json, gate.md (a GitHub step summary) and gate-badge.json, each whole or not at
    all.

    OSError if they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "gate.json": json.dumps(document(verdict), indent=1, allow_nan=False),
        "gate.md": f"## Repair: {headline(verdict)}\n\n{markdown(table(verdict))}",
        "gate-badge.json": json.dumps(badge(verdict)),
    }
    return [replace_file(folder / name, text + "\n") for name, text in texts.items()]


def _entries(finding: Finding) -> list[str]:
    if finding.change is None:
        return [finding.word, *[""] * (len(HEADINGS) - 1)]
    c, name = finding.change, finding.name
    return [
        finding.word,
        _number(c.old, name),
        _number(c.new, name),
        _number(c.effect, name, sign=True),
        _interval(c, name),
        _number(finding.allowed or 0.0, name),
        f"{c.n}" + (f" x {c.images // c.n:,}" if c.images else ""),
        _number(c.smallest, name),
    ]


def _sentence(finding: Finding) -> str:
    """A finding as a sentence: what changed by how much, beside what is allowed, on how much evidence."""
    c, name = finding.change, finding.name
    if c is None:
        return ": ".join(filter(None, (finding.cell, finding.why)))
    over = f"{c.n} seed{'s' * (c.n != 1)}" + (f" of {c.images // c.n:,} test images" if c.images else "")
    shown = (
        "cannot show any change"
        if math.isinf(c.smallest)
        else f"would show {_number(c.smallest, name)}{_unit(name)}"
    )
    return (
        f"{finding.cell}: {name} {_number(c.effect, name, sign=True)}{_unit(name)} "
        f"({_number(c.old, name)} to {_number(c.new, name)}),"
        f" interval {_interval(c, name)}, allowed {_number(finding.allowed or 0.0, name)}; {over} {shown}"
    )


def _unit(name: str) -> str:
    return " pp" if points(name) else ""


def _interval(c: Change, name: str) -> str:
    if math.isinf(c.low):
        return "none"
    return f"{_number(c.low, name, sign=True)} to {_number(c.high, name, sign=True)}"


def _number(value: float, name: str, sign: bool = False) -> str:
    return "none" if math.isinf(value) else fixed(value, 2 if abs(value) < 1000 else 0, sign)


def _json(finding: Finding) -> Tidy:
    c = finding.change
    numbers = {
        k: _finite(getattr(c, k)) if c else None for k in ("old", "new", "effect", "low", "high", "smallest")
    }
    counts = {"n": c.n if c else 0, "images": c.images if c else 0, "allowed": finding.allowed}
    return {
        "cell": finding.cell,
        "number": finding.name,
        "verdict": finding.word,
        "why": finding.why,
        **numbers,
        **counts,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
