"""A cell on another machine: lays what came with it into a folder of this node, then runs as it
does anywhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache as once
from getpass import getuser
from pathlib import Path
from typing import Any

import torch

from airepair.data.transport import is_here, read_from
from airepair.engines.baselines import SubjectKey, baseline_files
from airepair.engines.local import Local, failure_of
from airepair.engines.protocol import Failure
from airepair.engines.shipping import Files, lay, relocated
from airepair.errors import NotTrained
from airepair.registry import installed_points
from airepair.runner.cell import CellResult, CellSpec
from airepair.runner.loading import Loader
from airepair.runner.provenance import versions

EVERY = 1.0  # seconds between two reports of progress
GROUPS = ("airepair.methods", "airepair.models", "airepair.datasets", "airepair.metrics", "airepair.faults")
Tell = Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class Shipment:
    """What travels with a cell, by digest; `fetch` gives the content of one, and is called only if
    this node lacks it.
    """

    spec: bytes
    fetch: Callable[[str], Files]
    subject: str = ""
    user: str = ""
    data: str = ""


def facts() -> dict[str, str]:
    """What must be equal on every node: versions that numbers depend on, and plug-ins."""
    plugins = {
        f"plug-in {p.name}": p.dist.version if p.dist else "?"
        for group in GROUPS
        for p in installed_points(group)
    }
    return {k: v for k, v in versions().items() if not k.startswith("pytest")} | plugins


def different(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """How another machine differs; "" if it does not."""
    names = [k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k)]
    return ", ".join(
        f"{k} {theirs.get(k, 'not installed')} (here {ours.get(k, 'not installed')})" for k in names
    )


def node_folder(node: str) -> Path:
    """The folder of this node's copies: AIREPAIR_NODE_CACHE or the temporary folder, a folder per
    node and user.
    """
    given = os.environ.get("AIREPAIR_NODE_CACHE")
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"airepair-nodes-{getuser()}"
    return root / node[:16]


@dataclass
class Process:
    """What this process keeps between cells.

    `lost`: a method changed its state for good, so no other cell may run in it.
    """

    loaders: dict[Path, Loader] = field(default_factory=dict)
    lost: bool = False


@once
def process() -> Process:
    """Returns the one of this process."""
    return Process()


def train(shipment: Shipment, folder: Path) -> Files | Failure:
    """Makes a subject, or finds it among what came along; all files of its family, for the
    controller to keep.
    """
    spec = _received(shipment, folder)
    key = SubjectKey.of(spec)
    assert key is not None
    try:
        with read_from(folder / "data", spec.data):
            Loader(folder / "cache")(spec)
    except Exception as error:
        return failure_of(error)
    return baseline_files(folder / "cache", key)


def run(shipment: Shipment, folder: Path, tell: Tell) -> CellResult | Failure:
    """Runs a cell.

    It never trains its subject: that another one than the controller's is wanted here means other
    code or data.
    """
    spec = _received(shipment, folder)
    loader = process().loaders.setdefault(folder, Loader(folder / "cache", may_train=False))
    engine = Local(folder / "cache", hear=lambda _: _Told(tell), load=loader)
    try:
        with read_from(folder / "data", spec.data):
            ended = engine.wait([engine.submit(spec)])[0].end
    except NotTrained:
        ended = Failure(
            "failed", "this node's data or code make another subject than the one that the controller sent"
        )
    if isinstance(ended, CellResult) and ended.lost:
        process().lost = True
    if spec.device.startswith("cuda") and not process().lost:
        torch.cuda.empty_cache()
    return ended


def _received(shipment: Shipment, folder: Path) -> CellSpec:
    """The cell, with all that came along laid into the node's folder."""
    torch.set_num_threads(1)
    spec = CellSpec.from_json(shipment.spec)
    _laid(shipment.subject, shipment, folder / "cache")
    if shipment.data and not is_here(spec.data):
        _laid(shipment.data, shipment, folder / "data")
    if shipment.user:
        _laid(shipment.user, shipment, folder / "files" / shipment.user)
        spec = relocated(spec, folder / "files" / shipment.user)
    return spec


def _laid(digest: str, shipment: Shipment, place: Path) -> None:
    """Fetches and writes once per node; the mark is written last."""
    mark = place / f".{digest}"
    if digest and not mark.exists():
        lay(shipment.fetch(digest), place)
        lay({mark.name: b""}, place)


class _Told:
    """Reports the scores before, and the progress once a second."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.last = tell, 0.0

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """At most one report per second."""
        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            self.tell({"progress": (phase, step, steps, loss)})

    def log(self, text: str) -> None:
        """Notes are in the record."""

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """All there is of a cell whose process dies."""
        self.tell({"before": (dict(scores), dict(missing))})
