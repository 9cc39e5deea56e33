"""What goes into a cell and what comes out, as values that travel, so that it can run in this process,
in a child or elsewhere; and who hears of it meanwhile. Free of torch.

CellSpec is everything that decides a cell, as JSON values; CellResult is the record's line and the
bytes of its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from airepair.case import Case
from airepair.errors import UsageError
from airepair.records import Record
from airepair.subjects.user_model.input_spec import ModelSource


@dataclass(frozen=True)
class CellSpec:
    """It describes one cell.

    case      data set, model, method and seed, as the record's key names them
    profile   how much of the data is used ("none": all of it)
    options   of the method, all that were chosen; `origins` says where each came from
    dataset   what airepair.data.load is asked for, where that is not the case's own name
              (`npz:PATH`)
    device    "cpu", "cuda" or "cuda:1"
    images    limit of training images of the repair; `seconds` of its time
    audit     the repair's work is counted and compared with its images (audit.py); its seconds are
              then no measure
    pgd       the subject and the repaired model are attacked as well
    splits    "test", or "validation": then no test image is examined, and none stands in the record
    repair    without it the subject is examined and nothing else is done (`--testonly`)
    brought   a model file of a user's own; `failing` and `keep` are images for it (`npz:PATH`,
              `folder:PATH`)
    architecture  the model whose rows in the tables of settings apply, where that is not the case's
              own
    keep_weights  the repaired weights are among the result's files
    models    the repaired model is written as well: in the format that it came in, and as a .pt
    """

    case: Case
    profile: str
    options: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    device: str = "cpu"
    images: int | None = None
    seconds: float | None = None
    audit: bool = False
    pgd: bool = False
    splits: Literal["test", "validation"] = "test"
    repair: bool = True
    brought: ModelSource | None = None
    failing: str | None = None
    keep: str | None = None
    keep_weights: bool = False
    models: bool = False
    architecture: str = ""

    @property
    def data(self) -> str:
        """Returns the data set's name for airepair.data, its environment (`digits+fog3`) included."""
        return self.dataset or self.case.dataset

    @property
    def settings_model(self) -> str:
        """Returns the model's name for the tables of settings."""
        return self.architecture or self.case.model

    def to_json(self) -> bytes:
        """Returns the spec as one line of JSON."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def from_json(cls, text: bytes) -> CellSpec:
        """Returns the spec of a line; UsageError if it is none."""
        try:
            return msgspec.json.decode(text, type=cls, dec_hook=_decoded)
        except (msgspec.MsgspecError, UsageError) as error:
            raise UsageError(f"{text[:60]!r} is not a cell: {error}") from None


def _decoded(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


@dataclass(frozen=True)
class CellResult:
    """What `run_cell` leaves; who filed it, and where, is decided by its caller.

    files     path relative to the cell's own folder (`predictions.npz`) -> content
    models    path relative to the run's folder of models -> content, where the spec asks for
              written models
    lines     for a person: what was written of the repaired model, and why something was not
    lost      state of the process that the method changed and that cannot be put back: no other
              cell may run in this process
    """

    record: Record
    files: Mapping[str, bytes] = field(default_factory=dict)
    models: Mapping[str, bytes] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class Listener(Protocol):
    """Who hears of a cell while it runs."""

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Where training or repair is."""

    def log(self, text: str) -> None:
        """Hears a note of the method or of the harness, as it is made."""

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """Hears the scores before the repair: all there is of a cell whose process dies."""


class Deaf:
    """Hears nothing; whoever hears something inherits the rest."""

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Does nothing."""

    def log(self, text: str) -> None:
        """Does nothing."""

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """Does nothing."""
