"""A list of cells, in the order in which a machine is to run them (cifar_cpu.toml): what
`--profile` cannot say.

A row is a column, some methods and some seeds. Rows are short, so that whole comparisons are
finished early; a row whose cells all have a record is not run again. A column belongs to the
processor that made its first record: on another one it waits, and others begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from airepair.case import Case
from airepair.errors import UsageError
from airepair.host.validation import Count, Word, checked, toml_file
from airepair.records import Record
from airepair.subjects.user_model.input_spec import case_name

Some = msgspec.Meta(min_length=1)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cells of one column.

    `file`: a model file in the folder of models instead of a model of the grid, with its `early`
    state beside it.
    """

    dataset: Word
    methods: Annotated[list[Word], Some]
    seeds: Annotated[list[Count], Some]
    model: str = ""
    file: str = ""
    early: str = ""
    set: list[Word] = []

    @property
    def name(self) -> str:
        """The model as its cases have it."""
        return case_name(Path(self.file)) if self.file else self.model

    @property
    def column(self) -> str:
        """DATASET-MODEL."""
        return f"{self.dataset}-{self.name}"

    @property
    def keys(self) -> list[str]:
        """Its cells."""
        return [
            str(Case(self.dataset, self.name, method, seed)) for method in self.methods for seed in self.seeds
        ]

    def words(self, models: Path | None) -> list[str]:
        """What selects its cells on pytest's command line. UsageError for a model file that is not there."""
        words = [
            "--dataset",
            self.dataset,
            "--method",
            ",".join(self.methods),
            "--seeds",
            ",".join(map(str, self.seeds)),
        ]
        words += [word for assignment in self.set for word in ("--set", assignment)]
        if not self.file:
            return [*words, "--model", self.model]
        for name in filter(None, (self.file, self.early)):
            if models is None or not (models / name).exists():
                raise UsageError(
                    f"{self.column} is in the list, and {name} is not in --models {models}; accepted: "
                    f"the folder that holds it"
                )
        assert models is not None
        return [
            *words,
            "--pretrained",
            str(models / self.file),
            *(["--early", str(models / self.early)] if self.early else []),
        ]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    profile: Word
    reports: Word
    row: Annotated[list[Row], Some]


@dataclass(frozen=True)
class Listed:
    """The rows by their names (`1-cifar10-resnet18w16`); their profile; the folder of the
    repository that holds their records.
    """

    profile: str
    reports: str
    rows: dict[str, Row]


def read(path: Path) -> Listed:
    """The file's content; UsageError names what is wrong."""
    found = checked(toml_file(path, "a list of cells"), _File, str(path))
    for number, row in enumerate(found.row, 1):
        if bool(row.model) == bool(row.file):
            raise UsageError(
                f"{path}: row {number} has {'both' if row.model else 'neither'}; accepted: a model or a file"
            )
    return Listed(
        found.profile, found.reports, {f"{n}-{row.column}": row for n, row in enumerate(found.row, 1)}
    )


def left(row: Row, records: Iterable[Record], retry: bool = False) -> list[str]:
    """The row's cells that have no record; with `retry` those whose record is no repair as well."""
    tried = {r.key for r in records if not retry or r.status in ("repaired", "unsupported")}
    return [key for key in row.keys if key not in tried]


def processor_of(record: Record) -> tuple[str, str]:
    """Where a record was made: the device, and which instructions torch found there."""
    return str(record.provenance.get("device")), str(record.provenance.get("cpu_capability"))


def waits_for(row: Row, records: Sequence[Record], here: tuple[str, str]) -> str:
    """The processor that the row's column waits for; "" if it is this one, nobody has begun, or
    its bits are those of any processor.
    """
    column = [r for r in records if f"{r.case.dataset}-{r.case.model}" == row.column]
    others = [processor_of(r) for r in column if r.provenance.get("arithmetic") != "portable"]
    return "" if not others or here in others else " ".join(others[0])
