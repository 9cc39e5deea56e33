"""The verdict as a page of Markdown: its sentences, and what they rest on."""

from __future__ import annotations

from airepair.report.cells import Grid
from airepair.report.claims import claims
from airepair.report.markdown import escape
from airepair.report.paper import Paper
from airepair.report.verdict import verdict

BASIS = ("Claim: ", "Columns of the paper", "Left out: ")


def summary(cells: Grid, paper: Paper) -> str:
    """Returns the sentences as a list, then the claim line, the paper's columns that were not run,
    and what was left out.
    """
    basis = [line for line in claims(cells.plain, (), paper.columns) if line.startswith(BASIS)]
    return (
        "\n".join(
            [*(f"- {escape(s)}" for s in verdict(cells)), "", *(f"{escape(line)}  " for line in basis)]
        ).rstrip()
        + "\n"
    )
