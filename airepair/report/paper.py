"""The paper's own Table I (reports/paper/table1.csv): its numbers as they are, beside ours where
the cell is the same.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import airepair
from airepair.errors import UsageError
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.table import Entry, Heading, Row, Table, fixed

MARK = "†"
Key = tuple[str, str, str]  # "mnist-cnn", row, metric


@dataclass(frozen=True)
class Paper:
    """It holds the paper's numbers in percent (baseline) and percentage points (gains); empty if
    its file is not found.
    """

    numbers: Mapping[Key, float] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    def number(self, place: Column, row: str, metric: str) -> float | None:
        """Returns the paper's number of a cell, or None."""
        return self.numbers.get(("-".join(place), row, metric))

    def impossible(self, place: Column, row: str, metric: str) -> bool:
        """Returns whether the paper's baseline plus its gain exceeds 100 %."""
        base, more = self.number(place, "baseline", metric), self.number(place, row, metric)
        return row != "baseline" and base is not None and more is not None and round(base + more, 6) > 100

    def text(self, place: Column, row: str, metric: str) -> str:
        """Returns the number as the paper's table has it, marked where it is impossible; empty
        if the paper has none.
        """
        value = self.number(place, row, metric)
        if value is None:
            return ""
        return fixed(value, sign=row != "baseline") + MARK * self.impossible(place, row, metric)

    def notes(self, places: list[Column], rows: list[str]) -> list[str]:
        """Returns one footnote for the impossible cells among these."""
        found = [
            f"{'-'.join(p)} {method_title(r)} {fixed(self.numbers['-'.join(p), 'baseline', m])} "
            f"{fixed(self.numbers['-'.join(p), r, m], sign=True)}"
            for p in places
            for r in rows
            for m in ("accuracy", "constraint")
            if self.impossible(p, r, m)
        ]
        return (
            [
                f"{MARK} The paper's numbers exceed 100 % together and are printed as they are: "
                f"{'; '.join(found)}."
            ]
            if found
            else []
        )


def default_path() -> Path | None:
    """Returns where the paper's numbers lie: in the installed package, else in the checkout; None
    if they are in neither.
    """
    installed = Path(str(files("airepair.suite").joinpath("reports", "paper", "table1.csv")))
    checkout = Path(airepair.__file__).parents[1] / "reports" / "paper" / "table1.csv"
    return next((p for p in (installed, checkout) if p.is_file()), None)


def read(path: Path | None) -> Paper:
    """Returns the paper's numbers; an empty Paper for None. UsageError if the file is not of
    that form.
    """
    if path is None:
        return Paper()
    numbers: dict[Key, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file))
        for row, metric, *cells in lines:
            for place, cell in zip(head[2:], cells, strict=True):
                if cell.strip():
                    numbers[place, row, metric.removesuffix("_delta")] = float(cell)
        columns = tuple((dataset, model) for dataset, model in (place.split("-") for place in head[2:]))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} does not hold the paper's table ({error}); accepted: CSV with row, metric, "
            f"then a column DATASET-MODEL each"
        ) from error
    return Paper(numbers, columns)


def table(paper: Paper) -> Table:
    """Returns the paper's Table I by itself, in our layout."""
    rows = list(dict.fromkeys(row for _, row, _ in paper.numbers))
    lines = []
    for row in rows:
        metrics = [m for m in ("accuracy", "constraint") if any(paper.text(p, row, m) for p in paper.columns)]
        for metric in metrics:
            labels = (
                row if row == "baseline" else method_title(row),
                "Acc." if metric == "accuracy" else "Const.",
            )
            entries = tuple(Entry(paper.text(p, row, metric)) for p in paper.columns)
            lines.append(Row(labels, entries, rule=metric == metrics[0] and row != rows[0]))
    heads = tuple(Heading(dataset_title(d), model_title(m)) for d, m in paper.columns)
    claims = (
        "Claim: copied from the paper's Table I; it states neither the number of seeds nor the spread.",
    )
    return Table(
        "paper",
        "Table I of the AIREPAIR paper",
        ("Method", "Metric"),
        heads,
        tuple(lines),
        tuple(paper.notes(list(paper.columns), rows)),
        claims,
    )
