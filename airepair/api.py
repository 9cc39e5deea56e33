"""AIREPAIR from Python: `airepair.repair`, `load`, `compare` and `verdict` (docs/python.md). The package's own page imports this on first use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair import data as datasets
from airepair.case import Case
from airepair.data.images import robustness_of
from airepair.data.seen import divide_for
from airepair.data.splits import digest
from airepair.errors import UsageError
from airepair.gate.rules import rules_of
from airepair.gate.verdict import Verdict, judge
from airepair.models.recipes import training_of
from airepair.records import Record, read, scan
from airepair.report.grid import grid
from airepair.report.verdict import verdict as sentences
from airepair.runner.loading import Loaded
from airepair.runner.outcome import outcome
from airepair.runner.prepared import prepare
from airepair.runner.repair import repair as run_repair
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.types import Dataset, Split, Subject
from airepair.variants import check

PARTS = ("train", "repair", "validation", "test")
Arrays = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Repair:
    """A finished repair: the module (None unless `record.status` is "repaired") and the record, as the benchmark files it."""

    module: nn.Module | None
    record: Record

    @property
    def before(self) -> Mapping[str, float]:
        """Scores of the module that was given."""
        return self.record.before

    @property
    def after(self) -> Mapping[str, float]:
        """Scores of the repaired one."""
        return self.record.after


@dataclass(frozen=True)
class Records:
    """The records of a run, and remarks about what was left out in reading."""

    records: tuple[Record, ...]
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def to_frame(self) -> Any:
        """A pandas DataFrame, a row per cell: the case, status, `before.METRIC`, `after.METRIC`, budget and seconds. ImportError without pandas."""
        import pandas

        return pandas.DataFrame([_row(r) for r in self.records])


def _row(record: Record) -> dict[str, Any]:
    case = record.case
    found: dict[str, Any] = {
        "dataset": case.dataset,
        "model": case.model,
        "method": case.method,
        "seed": case.seed,
        "status": record.status,
    }
    found |= {f"{when}.{name}": value for when in ("before", "after") for name, value in getattr(record, when).items()}
    return found | {"images": record.budget.get("backward"), "seconds": record.cost.get("seconds")}


def load(folder: str | Path) -> Records:
    """The records of a folder or a .jsonl file. UsageError if there are none, or one cannot be read."""
    records, remarks = read([Path(folder)])
    return Records(tuple(records), tuple(remarks))


def compare(
    old: str | Path | Iterable[Record],
    new: str | Path | Iterable[Record],
    fail_if: Sequence[str] = (),
    level: float | None = None,
) -> Verdict:
    """The gate: new records against a baseline's, as `airepair compare` judges them; each a folder, a .jsonl file, or records.

    fail_if     rules as `accuracy:-0.5pp` (docs/reports.md); without any those of pyproject.toml or pytest.ini here, else the default
    level       how sure a decision must be

    `code` of what is returned is the exit code of the command (0 fine, 10 regressed or missing, 11 nothing or not all could be compared, 12
    cannot decide), `findings` has a line per cell and number. UsageError if the baseline cannot be read, or a rule is none.
    """
    rules = rules_of(list(fail_if), level, Path.cwd())
    before = read([Path(old)])[0] if isinstance(old, str | Path) else old
    if not isinstance(new, str | Path):
        return judge(before, new, rules)
    found = scan([Path(new)])
    return judge(before, found.records, rules, remarks=found.remarks, refused=found.refused)


def verdict(records: str | Path | Iterable[Record]) -> list[str]:
    """What records say, in three to six sentences: of a folder, a .jsonl file, or records themselves. UsageError if they cannot be read."""
    return sentences(grid(load(records) if isinstance(records, str | Path) else records))


def repair(
    module: nn.Module,
    data: str | Dataset | Arrays,
    method: str = "finetune",
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    trained_on: str = "official train",
) -> Repair:
    """Repairs a copy of a classifier; the module that was given stays as it is.

    module      takes float images in [0, 1], N x C x H x W, and returns logits, N x K; on any device
    data        the name of a data set (`mnist`, `npz:PATH`, `folder:PATH`; `trained_on` says what the module has seen of it), a Dataset, or arrays:
                {"repair": (x, y), "validation": ..., "test": ...} and, if a method is to learn from it, "train"; x is N x C x H x W, uint8 or
                float in [0, 1], y is N class ids
    method      a name of `airepair list methods`, with a variant in brackets if need be (`apricot[random_sets]`), or `package.module:Class`
    options     of the method; the rest are its defaults and the reviewed settings

    UsageError for anything that cannot be meant. Whatever the method does is in the record of what is returned.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    divided = _dataset(data, seed, trained_on)
    moved: dict[str, Any] = {name: getattr(divided, name).to(device) for name in PARTS}
    subject = Subject("own", module, replace(divided, **moved), training_of(divided.name, "").recipe, trained_on, {"kind": "module"})
    shared = Shared(device=str(device))
    case = Case(divided.name, "own", check(method), seed)
    chosen = chosen_options(case, "own", shared.profile_of(divided.name), options or {})
    ready = prepare(cell_spec(shared, case, chosen), Loaded(subject))
    found = outcome(ready, run_repair(ready))
    return Repair(found.module, found.record)


def _dataset(data: str | Dataset | Arrays, seed: int, trained_on: str) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str):
        return divide_for(datasets.whole(data), trained_on, seed)
    missing = [name for name in PARTS[1:] if name not in data]
    unknown = [name for name in data if name not in PARTS]
    if missing or unknown:
        raise UsageError(f"data has {', '.join(data) or 'nothing'}; accepted: repair, validation, test and, if there is one, train")
    splits = {name: _split(name, *data[name]) for name in data}
    none = splits["repair"].select(torch.zeros(0, dtype=torch.int64))
    splits.setdefault("train", none)
    classes = 1 + max(int(split.y.max()) for split in splits.values() if len(split))
    return Dataset(
        name="own",
        classes=tuple(map(str, range(classes))),
        groups=tuple((k,) for k in range(classes)),
        robustness=robustness_of(splits["train"] if len(splits["train"]) else splits["repair"]),
        digests={name: digest(split) for name, split in splits.items()},
        seed=seed,
        scope="the given images",
        train=splits["train"],
        repair=splits["repair"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _split(name: str, x: Any, y: Any) -> Split:
    images, labels = torch.as_tensor(x), torch.as_tensor(y).to(torch.int64)
    fits = images.ndim == 4 and labels.shape == images.shape[:1] and len(labels)
    if not fits or not (images.dtype == torch.uint8 or _in_unit(images)):
        raise UsageError(
            f"{name}: images {images.dtype} {tuple(images.shape)} and labels {tuple(labels.shape)}; "
            "accepted: N x C x H x W, uint8 or float in [0, 1], and N class ids"
        )
    return Split(images if images.dtype == torch.uint8 else images.float(), labels)


def _in_unit(images: Tensor) -> bool:
    return images.is_floating_point() and float(images.min()) >= 0 and float(images.max()) <= 1
