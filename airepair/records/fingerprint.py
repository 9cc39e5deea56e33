"""The fingerprint of a cell: what must be equal for two records to be of the same experiment. Free of torch.

A record holds it with its parts, so that a difference can be named. What an older record lacks is
unknown, and unknown is no difference.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from airepair.host.source_code import source_digest

if TYPE_CHECKING:
    from airepair.records.record import Record

Fingerprint = Mapping[str, Any]
WORDS = {
    "benchmark_version": "benchmark version",
    "weights": "weights of the subject",
    "image_limit": "limit of training images",
    "column_budget": "column budget",
    "device_kind": "device",
    "pgd": "attack (--pgd)",
    "audit": "audit (--audit)",
    "file": "reading of the model file",
}
DIGESTS = ("weights", "source")
VERSIONS = ("split_version", "benchmark_version")  # stand among the digests of data, and are none
CONDITIONS = ("profile", "benchmark_version", "arithmetic")  # a record has them in its provenance, too
RUN = ("device_kind", "pgd", "audit")  # what a run asked for; a record without it shows it
# Parts that older records, or those of most methods or subjects, do not have.
SOME = ("image_limit", "column_budget", *RUN, "file")
PARTS = ("options", "data", "weights", *CONDITIONS, *SOME, "source")
READ = ("code", "outputs", "scaling_in_file")  # of a subject's origin, beside its feeding


def of_cell(
    method: object,
    *,
    given: Mapping[str, Any],
    conditions: Mapping[str, Any],
    data: Mapping[str, str] | None = None,
    weights: str | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Returns the fingerprint of a cell that is to run, in JSON values.

    method      the configured method: its name, its options as it runs with them, the digest of its
                source
    given       the options that a user or a table of settings gave, as they gave them
    conditions  profile, benchmark_version, arithmetic, image_limit, device_kind, pgd, audit, the
                column_budget of a control and how a model file is read (`file`), as far as they
                are known
    data        name of a split -> its digest; `weights`: digest of the subject's parameters and
                buffers. None: unknown
    source      the digest of the method's source as it was loaded; None: as it is now
    """
    options = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}  # type: ignore[arg-type]
    parts = {
        "method": str(getattr(method, "name", type(method).__name__)),
        "options": _plain(options),
        "given": _plain(given),
        "data": None if data is None else {k: v for k, v in data.items() if k not in VERSIONS},
        "weights": weights,
        **conditions,
        "source": source_digest(method) if source is None else source,
    }
    return {name: part for name, part in parts.items() if part is not None}


def of(record: Record) -> Fingerprint:
    """Returns the record's fingerprint; of a record that has none, what its other fields say."""
    said = {
        "method": record.case.base_method,
        "options": {name: entry.get("value") for name, entry in record.options.items()} or None,
        "given": {name: entry.get("value") for name, entry in record.options.items() if entry.get("given")},
        "data": {k: v for k, v in record.subject.get("data", {}).items() if k not in VERSIONS} or None,
        "weights": record.subject.get("weights"),
        "profile": record.provenance.get("profile"),
        "benchmark_version": record.provenance.get("benchmark_version", 1),  # version 1 did not name itself
        "arithmetic": record.provenance.get("arithmetic"),
        "device_kind": record.provenance.get("device_kind"),
        "pgd": "pgd_accuracy" in record.before if record.before else None,
        "audit": any(note.startswith("audit:") for note in record.notes) if record.before else None,
        "file": reading(record.subject.get("origin") or {}),
    }
    found = {k: v for k, v in (said | dict(record.fingerprint)).items() if v is not None}
    return found | (
        {"source": moved_sources().get(found["source"], found["source"])} if "source" in found else {}
    )


def reading(origin: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what decides a brought model file's answers beside its weights: layout and colours,
    the user's own code, the order of the outputs, the digest of an earlier state; None for a
    subject that was trained here.

    Range, mean and standard deviation of the pixels are buffers of the network, in the digest of
    its weights.
    """
    if origin.get("kind") != "brought":
        return None
    feeding = origin.get("feeding") or {}
    found = {name: feeding[name].get("value") for name in ("layout", "colours") if name in feeding}
    found |= {name: origin[name] for name in READ if name in origin}
    if "architecture" in origin:  # as it was written: `net.py:Net`, with any path before it
        found["architecture"] = str(origin["architecture"]).rpartition(":")[2]
    early = origin.get("early")
    plain: dict[str, Any] = _plain(found | ({"early": early.get("sha256")} if early else {}))
    return plain


@cache
def moved_sources() -> Mapping[str, str]:
    """Maps the digest of a method's source in records before the move of files to that of the same
    code now (moved_sources.toml).
    """
    table: dict[str, str] = tomllib.loads(
        files("airepair.records").joinpath("moved_sources.toml").read_text(encoding="utf-8")
    )
    return table


def differences(old: Fingerprint, new: Fingerprint, parts: Sequence[str] = PARTS) -> list[str]:
    """What differs, a sentence per part or option: `apricot: source changed`, `apricot.weight: was
    5, is 50`.
    """
    found: list[str] = []
    for part in parts:
        if part == "options" and part in old and part in new:
            found += _differences(
                part, _comparable(old, new), _comparable(new, old), str(new.get("method", "method"))
            )
        elif part in old and part in new:
            found += _differences(part, old[part], new[part], str(new.get("method", "method")))
    return found


def _comparable(one: Fingerprint, other: Fingerprint) -> dict[str, Any]:
    """The options that the other has as well, or that somebody gave: one that only a later version
    knows has its default here.
    """
    given = one.get("given", {})
    return {
        name: value for name, value in one["options"].items() if name in other["options"] or name in given
    }


def unknown(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Returns the parts that cannot be compared, since one of the two lacks them; of those that
    only some cells have, since the other has it.
    """
    lacking = [p for p in PARTS if not (p in old and p in new)]
    return [WORDS.get(p, p) for p in lacking if p not in SOME or p in old or p in new]


def _differences(part: str, old: Any, new: Any, method: str) -> Iterator[str]:
    if part in ("options", "data", "file"):
        for name in sorted({*old, *new}):
            before, after = old.get(name, "not there"), new.get(name, "not there")
            if before != after:
                label = {"options": f"{method}.{name}", "data": f"data of {name}"}.get(part)
                label = label or f"{name} of the model file"
                yield f"{label}: was {_short(before, part)}, is {_short(after, part)}"
    elif old != new:
        if part == "source":
            yield f"{method}: source changed"
        elif part == "column_budget":  # other methods' settings decide it
            yield f"{method}: column budget changed: was {old:,} images, is {new:,}"
        else:
            yield f"{WORDS.get(part, part)}: was {_short(old, part)}, is {_short(new, part)}"


def _plain(value: Any) -> Any:
    """As JSON reads it back: a tuple is a list."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _short(value: Any, part: str) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text[:12] if part == "data" or part in DIGESTS else text
