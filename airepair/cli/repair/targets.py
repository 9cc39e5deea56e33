"""What a command line repairs: one subject of the grid, a model file of the user's own, or every
pre-trained model there is (`--all`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from airepair.data import DATASETS, short_name
from airepair.errors import AirepairError, UsageError, one_line
from airepair.faults import HEALTHY
from airepair.formats.detect import sniff
from airepair.models import UNDERTRAINED, registered
from airepair.models.names import model_name
from airepair.records import scan
from airepair.subjects.user_model.input_spec import ModelSource, case_name

ENDINGS = (".pt", ".pth", ".pt2", ".safetensors", ".h5", ".hdf5", ".keras", ".pb", ".onnx")
_CACHED = re.compile(r"(?P<dataset>[a-z0-9_+]+)-(?P<model>[^-]+)-s(?P<seed>\d+)-[0-9a-f]{16}")


@dataclass(eq=False)
class Target:
    """It is a model under repair.

    `model` is its name in cases; a file (`brought`) has one set of weights. `trained`: it must be
    in the cache.
    """

    dataset: str
    model: str
    brought: ModelSource | None = None
    seeds: tuple[int, ...] | None = None
    trained: bool = False

    @property
    def name(self) -> str:
        """Returns the name for folders and for what is shown."""
        return f"{self.data}-{self.model}"

    @cached_property
    def architecture(self) -> str:
        """Returns the model whose rows in the tables of settings apply: a file's architecture if it
        is known, else the name in cases.
        """
        return (architecture_of(self.brought) if self.brought else None) or self.model

    @property
    def data(self) -> str:
        """Returns the data set's name in cases: its own short one for a user's files."""
        return short_name(self.dataset)


def dataset_in(path: Path) -> str | None:
    """Returns the data set that a torch file of ours names, if it is a registered one."""
    data = _facts_in(path).get("data")
    return data if data in DATASETS.names() else None


def architecture_of(brought: ModelSource, *, read: bool = True) -> str | None:
    """Returns a file's architecture by its registered name, from `--net_arch` or, with `read`, from
    a torch file of ours; None if neither names one.
    """
    if (
        brought.net_arch
        and ":" not in brought.net_arch
        and (brought.net_arch != "resnet" or brought.depth is not None)
    ):
        return model_name(brought.net_arch, brought.depth)
    stated = str(_facts_in(brought.path).get("arch")) if read else ""
    return stated if registered(stated.partition("+")[0]) else None


def _facts_in(path: Path) -> dict[str, Any]:
    """What a torch file states of itself; empty for any other file."""
    from airepair.models import checkpoint

    try:
        found = checkpoint.load(path) if sniff(path) == "torch" else None
    except (UsageError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def grid_model(net_arch: str, depth: int | None) -> str:
    """Returns `--net_arch` and `--depth` as the grid's model; what follows a plus (a fault) and
    `_undertrained` stay.
    """
    if ":" in net_arch:
        raise UsageError(
            f"--net_arch {net_arch} is code for the weights of a file; accepted: with --pretrained FILE, "
            f"or a registered name"
        )
    plain, plus, fault = net_arch.partition("+")
    architecture = plain.removesuffix(UNDERTRAINED)
    return model_name(architecture, depth) + plain.removeprefix(architecture) + plus + fault


def every_model(folder: Path | None, dataset: str | None, asked: ModelSource, cache: Path) -> list[Target]:
    """Returns every model file in `folder`, or every trained baseline in the cache, of that data
    set if one is named.

    UsageError if there is none.
    """
    found = list(_files(folder, dataset, asked) if folder else _baselines(cache, dataset))
    if not found:
        where = (
            f"--models {folder} holds no model file ({', '.join(ENDINGS)})"
            if folder
            else f"there is no trained baseline in {cache}"
        )
        what = f" for {dataset}" if dataset else ""
        raise UsageError(
            f"--all: {where}{what}; accepted: --models DIR with model files, or --dataset and --net_arch"
        )
    return found


def _files(folder: Path, dataset: str | None, asked: ModelSource) -> Iterator[Target]:
    if not folder.is_dir():
        raise UsageError(f"--models {folder} is not a folder; accepted: a folder of model files")
    names: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in ENDINGS):
        data, name = dataset or dataset_in(path), case_name(path)
        if data is None:
            raise UsageError(f"--all: {path} does not say which data set it is for; accepted: --dataset NAME")
        if name in names:
            raise UsageError(
                f"--all: {path.name} and {names[name].name} would have the same name in cases; rename one"
            )
        names[name] = path
        yield Target(data, name, replace(asked, path=path))


def _baselines(cache: Path, dataset: str | None) -> Iterator[Target]:
    seeds: dict[tuple[str, str], set[int]] = {}
    for file in sorted(cache.glob("*.safetensors")) if cache.is_dir() else []:
        match = _CACHED.fullmatch(file.stem)
        if match and f"+{HEALTHY}" not in match["model"] and dataset in (None, match["dataset"]):
            seeds.setdefault((match["dataset"], match["model"]), set()).add(int(match["seed"]))
    for (data, model), found in sorted(seeds.items()):
        yield Target(data, model, seeds=tuple(sorted(found)), trained=True)


def skipped(target: Target, error: AirepairError) -> str:
    """Returns the line for a model of `--all` that cannot be loaded."""
    return f"left out: {target.name}: {one_line(error)}"


def expected(methods: Sequence[str], cells: int, runs: Path) -> str:
    """How long `cells` repairs take, from the records of earlier runs beside this one; "unknown"
    where a method has none.
    """
    try:
        records = scan([runs]).records if runs.is_dir() else []
    except UsageError:
        records = []
    times = {
        m: [float(r.cost["seconds"]) for r in records if r.case.base_method == m and "seconds" in r.cost]
        for m in methods
    }
    unknown = [m for m in methods if not times[m]]
    if unknown:
        return f"unknown until they have run once ({', '.join(unknown)}); --time-limit bounds each"
    seconds = sum(median(t) for t in times.values()) * cells / max(1, len(methods))
    return f"about {seconds / 60:.1f} minutes, from {len(records)} earlier records in {runs}"
