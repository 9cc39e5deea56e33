"""The page of a mutation run: the score, and for each survivor why no test sees it."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airepair.errors import UsageError

from .trial import COMMIT, DRAWN, Result, carried, once_survived, results

REASONS, SCORE = "survivors.toml", "score.json"


def reasons(out: Path) -> dict[str, str]:
    """Survivor -> why it is one, written by hand."""
    file = out / REASONS
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write(folder: Path, out: Path, seed: int, *, so_far: bool = False) -> float:
    """Writes score.md and score.json into `out`; the share of killed mutants.

    UsageError while mutants are left to try. With `so_far` the page is about those that were tried,
    and says how many are left: they were drawn in random order, so these are a random sample, too.
    """
    keys = [
        f"{m['path']}:{m['line']}:{m['start']}: {m['name']}"
        for m in json.loads((folder / DRAWN).read_text(encoding="utf-8"))
    ]
    found = results(folder)
    left = [key for key in keys if key not in found]
    if left and not (so_far and len(left) < len(keys)):
        raise UsageError(
            f"{len(left)} of {len(keys)} mutants have not been tried; accepted: "
            f"a finished `python -m benchmarks.mutants run`"
        )
    ended = {key: found[key] for key in keys if key in found}
    killed = sum(r.status != "survived" for r in ended.values())
    out.mkdir(parents=True, exist_ok=True)
    facts = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
    past = carried(folder)
    late = len(once_survived(folder) & {r.key for r in ended.values() if r.status != "survived"})
    late += past["late"]
    facts |= {"seed": seed, "drawn": len(keys), "mutants": len(ended), "killed": killed, "late": late}
    facts |= {"again": [run for run in past["runs"] if run["ended"]]}
    lines = [[r.key, r.status, r.by] for r in ended.values()]
    (out / SCORE).write_text(json.dumps(facts | {"results": lines}, indent=1) + "\n", encoding="utf-8")
    (out / "score.md").write_text(page(ended, reasons(out), facts), encoding="utf-8")
    return killed / len(ended)


def page(ended: Mapping[str, Result], why: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """The Markdown page."""
    total, gone = (
        Counter(_room(r.key) for r in ended.values() if not alive or r.status == "survived")
        for alive in (False, True)
    )
    killed = len(ended) - sum(gone.values())
    later = ", with later tests" if facts["dirty"] else ""
    lines = [
        "# Mutants",
        "",
        f"{len(ended)} small faults, drawn with seed {facts['seed']} over methods, what they share, "
        f"metrics and corruptions, were put into the code "
        f"one at a time (commit {str(facts['commit'])[:10]}{later}). "
        f"The tests noticed {killed}, "
        f"{100 * killed / len(ended):.1f} %.{_left(facts)}",
        *map(_again, facts["again"]),
        "",
        "`python -m benchmarks.mutants cover`, `run` and `page` make this page; "
        "the reasons are in [survivors.toml](survivors.toml).",
        "",
        "| room | mutants | noticed |",
        "|---|---|---|",
        *(f"| {room} | {total[room]} | {total[room] - gone[room]} |" for room in sorted(total)),
        "",
        "| survivor | why |",
        "|---|---|",
        *(
            f"| `{r.key.replace('|', chr(92) + '|')}` | {why.get(r.key, 'not looked at')} |"
            for r in ended.values()
            if r.status == "survived"
        ),
    ]
    return "\n".join(lines) + "\n"


def _left(facts: Mapping[str, Any]) -> str:
    left, late = facts["drawn"] - facts["mutants"], facts["late"]
    again = f" {late} of them survived a first run, before tests were added or chosen anew." if late else ""
    rest = f" The other {left} of the {facts['drawn']} drawn have not been tried." if left else ""
    return again + rest


def _again(run: Mapping[str, Any]) -> str:
    """A line of the page: which survivors were tried again, when, and what became of them."""
    ended: Mapping[str, str] = run["ended"]
    killed = sum(status != "survived" for status in ended.values())
    places = ", ".join(f"`{':'.join(key.split(':')[:2])}`" for key in ended)
    later = ", with later tests" if run["dirty"] else ""
    return (
        f"\nTried again on {run['date']} (commit {str(run['commit'])[:10]}{later}), and {killed} of "
        f"{len(ended)} noticed: {places}. The other results are those of the first commit."
    )


def _room(key: str) -> str:
    parts = key.partition(":")[0].split("/")
    return parts[1] if len(parts) > 2 else "shared modules"
