"""The measurements as a page: a table, and the line that says what its numbers rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACTS = {
    "images_per_second": "{:,.0f} images/s",
    "share_of_peak": "{:.1%} of the bf16 peak",
    "largest_difference": "results differ by {:.0e}",
    "moved": "{:.0%} of the pixels moved",
    "theirs_is_higher_by": "no image's loss is higher in theirs by more than {:.0e}",
    "difference_of_means": "means of the accuracies differ by {:+.4f}",
    "spread": "standard deviation over seeds {:.4f}",
    "agrees": "within twice the standard error: {}",
}


def markdown(content: Mapping[str, Any]) -> str:
    """The page of one run's JSON content."""
    rows = [
        f"| {m['group']} | {m['name']} | {m['ratio'].replace('seconds of ', '')} | **{m['median']:.2f}** "
        f"| {m['min']:.2f} to {m['max']:.2f} "
        f"| {m['wanted'] or ''}{'' if m['reached'] is not False else ' (not reached)'} | {facts(m)} |"
        for m in content["measures"]
    ]
    head = [
        "| part | what | ratio of seconds | median | range | wanted | besides |",
        "|:--|:--|:--|--:|:--|:--|:--|",
    ]
    return (
        "\n".join([f"# Speed on {content['provenance']['device']}", "", *head, *rows, "", *claims(content)])
        + "\n"
    )


def facts(measure: Mapping[str, Any]) -> str:
    """What else was found of it."""
    return ", ".join(text.format(measure[name]) for name, text in FACTS.items() if name in measure)


def claims(content: Mapping[str, Any]) -> list[str]:
    """How it was measured, where, and how busy the machine was."""
    p, repeats = content["provenance"], sorted({m["repeats"] for m in content["measures"]})
    loads = content["load"]
    changed = " with local changes" if p["dirty"] else ""
    how = (
        f"n = {' or '.join(map(str, repeats))} pairs, both arms in turn; median, "
        f"minimum and maximum of the pairs' ratios, in {content['clock']}."
    )
    where = (
        f"{p['threads']} thread(s); torch {p['versions']['torch']}, "
        f"Python {p['versions']['python']}; commit {p['commit']}{changed}; {p['time']}"
    )
    return [
        f"{how} {where}; load average {min(loads)} to {max(loads)}; {content['seconds']} s in all. "
        f"Made by `python -m benchmarks.perf`."
    ]
