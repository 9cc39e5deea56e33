"""What an entry for the leaderboard lacks: a folder with its records and an entry.toml that says
whose method it is. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from airepair import BENCHMARK_VERSION
from airepair.cli.verification.answers import contradictions
from airepair.errors import UsageError
from airepair.host.validation import Word, checked, toml_file
from airepair.records import FINISHED, Found, Record, version
from airepair.report.comparison import fewest_seeds

ENTRY = "entry.toml"
CONTROLS = ("noop", "finetune")
DIRECT = "direct weight modification"  # beside it stands the random change
Words = Annotated[list[Word], msgspec.Meta(min_length=1)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It holds the fields of entry.toml.

    methods  the methods of the records that are entered; others, such as the controls, stand beside them
    source   where everybody can read the code that made the records, with its commit
    install  what pip installs so that the methods are there ("" if the harness has them)
    """

    name: Word
    authors: Words
    methods: Words
    source: Word
    licence: Word
    paper: str = ""
    install: str = ""


def entry_of(folder: Path) -> Entry:
    """Returns the folder's entry.toml; UsageError if it is not there or malformed."""
    path = folder / ENTRY
    return checked(
        toml_file(path, "name, authors, methods, source and licence of an entry"), Entry, str(path)
    )


def lacks(folder: Path, found: Found) -> list[str]:
    """What must be there before the entry can be compared with others, a sentence each."""
    missing = [f"a record that can be read in the place of this line: {line}" for line in found.refused]
    try:
        entry = entry_of(folder)
    except UsageError as error:
        return [f"a valid {ENTRY}: {error}", *missing]
    for method in entry.methods:
        columns = sorted({(r.case.dataset, r.case.model) for r in found.records if r.case.method == method})
        if not columns:
            missing.append(f"records of {method}, which {ENTRY} names")
        for dataset, model in columns:
            column = [r for r in found.records if (r.case.dataset, r.case.model) == (dataset, model)]
            missing += [f"{dataset}-{model}: {line}" for line in _of_column(method, column)]
    return missing + list(_of_records(folder, found.records))


def _of_column(method: str, column: list[Record]) -> Iterator[str]:
    """Seeds and controls: the method and what stands beside it at the same ones, whatever came of them."""
    seeds = _seeds(column, method)
    if len(seeds) < fewest_seeds():
        yield (
            f"{fewest_seeds() - len(seeds)} more seeds of {method} ({len(seeds)} are there): "
            f"with fewer than {fewest_seeds()} no test can decide"
        )
    direct = any(r.category == DIRECT for r in column if r.case.method == method)
    for control in (*CONTROLS, *(["random"] if direct else [])):
        if absent := sorted(seeds - _seeds(column, control)):
            yield f"the control {control} at seed{'s' * (len(absent) > 1)} {_list(absent)}"
        if left_out := sorted(_seeds(column, control) - seeds):
            yield f"{method} at seed{'s' * (len(left_out) > 1)} {_list(left_out)}, where {control} is"
    unfinished = sorted({r.case.seed for r in column if r.case.method == method and r.status not in FINISHED})
    if unfinished:
        yield f"a finished {method} at seed{'s' * (len(unfinished) > 1)} {_list(unfinished)}"


def _seeds(column: Iterable[Record], method: str) -> set[int]:
    return {r.case.seed for r in column if r.case.method == method}


def _of_records(folder: Path, records: Iterable[Record]) -> Iterator[str]:
    """What each record must say, one sentence per kind with the first cells that lack it."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        for kind in _without(record):
            kinds.setdefault(kind, []).append(record.key)
        yield from (f"{record.key}: scores that agree: {line}" for line in contradictions(record, folder))
    for kind, keys in kinds.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        yield f"{kind}: {', '.join(keys[:3])}{more}"


def _without(record: Record) -> Iterator[str]:
    if version(record) != BENCHMARK_VERSION:
        yield f"numbers of benchmark version {BENCHMARK_VERSION}"
    if record.status == "repaired" and not {"before", "after"} <= set(record.right):
        yield "right answers of each test image"
    if record.status in FINISHED and "source" not in record.fingerprint:
        yield "a fingerprint with the digest of the method's source"
    digits = record.status in FINISHED and record.case.dataset.partition("+")[0] == "digits"
    if digits and record.provenance.get("arithmetic") != "portable":
        yield (
            "portable arithmetic on digits, so that anybody can reproduce the bits (run it without --native)"
        )
    if record.provenance.get("dirty"):
        yield "a checkout of the harness without changes"
    if not record.provenance.get("versions", {}).get("airepair"):
        yield "the versions that made it"


def _list(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))
