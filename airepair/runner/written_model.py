"""Repaired models on disk: in the format they came in, and as a .pt of plain values that says what it
is and how it is fed.

models/KEY.pt     state dict with arch, classes, data, shape, feeding facts; loads with
weights_only=True and through --pretrained
models/KEY.toml   beside it, only where a checkpoint cannot say how the network is fed (colour
order, layout, code of the user's own)
models/KEY.torchscript.pt   the whole network as a program, where a state dict does not tell its
architecture (attached units, converted)
models/KEY.module.pt        the same as a pickled module, where TorchScript cannot say what it does
(prdnn's two channels)
models/KEY/NAME   the user's file with the repaired weights, under its own name; a TOML file beside
it: what it has seen, how it is fed
"""

from __future__ import annotations

import copy
import errno
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import nn

import airepair
from airepair.errors import AirepairError, one_line
from airepair.formats.export import export
from airepair.formats.model_file import ModelFile, same_structure
from airepair.host.atomic import replacing, write_atomically
from airepair.models.input_adapter import InputAdapter
from airepair.models.user_code import is_own_code
from airepair.records import Record
from airepair.runner.outcome import Outcome
from airepair.runner.prepared import PreparedCell
from airepair.training.resumable import save_atomically
from airepair.types import Subject

STATE_DICTS = ("torch", "safetensors")
LOST = (
    "the numbers of {} ({}) are coarser than the repaired network's, and its scores are the network's: "
    "{}; the .pt holds the network itself"
)
CONVERTED = "converted from {}: its own file holds the network"


@dataclass(frozen=True)
class Written:
    """It holds `lines`: one for each file, and one for what a format cannot hold.

    `back`: for the record, what became of the user's own file; `lost`: a note, where it does not
    hold what was examined.
    """

    lines: tuple[str, ...] = ()
    back: Mapping[str, Any] = field(default_factory=dict)
    lost: str = ""


def write_models(folder: Path, ready: PreparedCell, outcome: Outcome) -> tuple[Record, tuple[str, ...]]:
    """Writes the repaired model of a cell: its record, which says what became of a user's own file,
    and a line per written file.

    OSError if the disk is full.
    """
    net_arch = ready.spec.brought.net_arch if ready.spec.brought else None
    written = _written(folder, ready.subject, outcome, ready.loaded.opened, net_arch)
    record = outcome.record
    if written.back:
        record = replace(record, subject={**record.subject, "written_back": dict(written.back)})
    if written.lost:
        record = replace(record, notes=(*record.notes, written.lost))
    return record, written.lines


def _written(
    folder: Path, subject: Subject, outcome: Outcome, opened: ModelFile | None, net_arch: str | None
) -> Written:
    if outcome.module is None:
        return Written()
    folder.mkdir(parents=True, exist_ok=True)
    key = outcome.record.key
    facts, fed = facts_of(subject, outcome, opened, net_arch)
    changed = _changed(subject.module, outcome.module)
    if changed:
        facts["changed"] = (
            f"{outcome.record.case.method} {changed}: the state dict has tensors that the architecture "
            f"does not name"
        )
    net = _network(outcome.module) if not changed else outcome.module
    file = folder / f"{key}.pt"
    save_atomically(
        facts | {"state_dict": {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}}, file
    )
    lines = [f"{file.relative_to(folder.parent)}: state dict" + (f" ({facts['changed']})" if changed else "")]
    lines += _beside(file, fed, folder)
    if changed or (opened is not None and opened.kind not in STATE_DICTS):
        lines += _program(folder, subject, outcome.module, key)
    if opened is None:
        return Written(tuple(lines))
    original = _original(folder, key, subject, outcome.module, opened, net_arch)
    return replace(original, lines=(*lines, *original.lines))


def _beside(file: Path, values: Mapping[str, Any], folder: Path) -> list[str]:
    """A TOML file beside a model file, if there is something to say; a line for it."""
    if not values:
        return []
    path = file.parent / f"{file.stem}.toml"
    write_atomically(path, tomli_w.dumps(values).encode())
    return [f"{path.relative_to(folder.parent)}: how it is fed"]


def _program(folder: Path, subject: Subject, module: nn.Module, key: str) -> list[str]:
    """The network with its feeding as TorchScript: images in [0, 1] to logits in the data set's
    order of classes.
    """
    out = folder / f"{key}.torchscript.pt"
    try:
        export(copy.deepcopy(module).cpu(), subject.dataset.shape, out)
    except (
        Exception
    ) as error:  # whatever a method builds must not end the run: its record and its state dict are there
        out.unlink(missing_ok=True)
        return [
            f"{key}: not written as TorchScript: {one_line(error, 160)}",
            *_pickled(folder, subject, module, key),
        ]
    line = (
        f"{out.relative_to(folder.parent)}: the whole network, images in 0..1 to logits (read with "
        f"--trust-pickle)"
    )
    return [line, *_beside(out, seen_by(subject), folder)]


def _pickled(folder: Path, subject: Subject, module: nn.Module, key: str) -> list[str]:
    """The network with its feeding as torch pickles a module; reading it takes airepair itself."""
    out = folder / f"{key}.module.pt"
    try:
        with replacing(out, keep_name=True) as temporary:
            torch.save(copy.deepcopy(module).cpu(), temporary)
    except Exception as error:  # as above
        return [f"{key}: not pickled either: {one_line(error, 160)}"]
    line = (
        f"{out.relative_to(folder.parent)}: the whole module, images in 0..1 to logits (read with "
        f"--trust-pickle, where airepair is installed)"
    )
    return [line, *_beside(out, seen_by(subject), folder)]


def _original(
    folder: Path, key: str, subject: Subject, module: nn.Module, opened: ModelFile, net_arch: str | None
) -> Written:
    """The user's file with the repaired weights; the reason where its format cannot hold the repair."""
    out = folder / key / opened.source.name
    out.parent.mkdir(exist_ok=True)
    try:
        fidelity = opened.write(module, out)
    except Exception as error:  # as above: the user may have moved the file since it was read
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        shutil.rmtree(out.parent)  # which holds this file and what belongs to it, whole or not at all
        return Written(
            (f"{key}: not written as {opened.kind}: {one_line(error)}",), {"reason": one_line(error)}
        )
    back = {"file": str(out.relative_to(folder.parent)), "fidelity": fidelity and fidelity.facts()}
    line = f"{out.relative_to(folder.parent)}: {opened.kind}, as it came in" + (
        f" ({fidelity})" if fidelity else ""
    )
    stated = {
        k: v["value"]
        for k, v in subject.origin["feeding"].items()
        if v["from"] == "option" or v["from"].endswith(".toml")
    }
    stated |= seen_by(subject)
    if is_own_code(net_arch):
        stated["net_arch"] = net_arch  # a reader is told to name it, and what
    lost = "" if fidelity is None or fidelity.faithful else LOST.format(out.name, opened.kind, fidelity)
    return Written((line, *([lost] if lost else []), *_beside(out, stated, folder)), back, lost)


def facts_of(
    subject: Subject, outcome: Outcome, opened: ModelFile | None, net_arch: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the .pt says of itself (plain values), and what has to stand in a TOML file beside it."""
    record, data, told = outcome.record, subject.dataset, dict(opened.facts) if opened else {}
    fault = subject.origin.get("fault")
    facts: dict[str, Any] = {
        "arch": _architecture(subject, opened, net_arch),
        "classes": len(data.classes),
        "data": data.name.partition("+")[0],
        "shape": list(data.shape),
        **seen_by(subject),
        "digests": dict(data.digests),
        "recipe": asdict(subject.recipe),
        "fault": fault["name"] if isinstance(fault, Mapping) else str(told.get("fault") or ""),
        "repaired_by": record.case.method,
        "key": record.key,
        "pair": list(record.subject.get("pair") or []),
        "scores": {"before": dict(record.before), "after": dict(record.after)},
        "airepair": airepair.__version__,
    }
    feed = subject.module if isinstance(subject.module, InputAdapter) else None
    own: dict[str, Any] = {"net_arch": net_arch} if is_own_code(net_arch) else {}
    if feed is None:
        return facts, own
    mean, std = (t.flatten().tolist() for t in (feed.mean, feed.std))
    if feed.scale == 1:
        facts |= {"mean": mean, "std": std}
    else:
        own |= {"input_range": [0.0, feed.scale], "mean": mean, "std": std}
    own |= {"colours": "bgr"} if feed.bgr else {}
    own |= {"layout": feed.layout} if feed.layout != "NCHW" else {}
    if feed.order is not None:
        position = feed.order.tolist()
        own["classes"] = [data.classes[position.index(k)] for k in range(len(position))]
    return facts, own


def seen_by(subject: Subject) -> dict[str, Any]:
    """What a repaired network has seen: the subject's training data, and the division whose repair
    and validation splits the repair has used.
    """
    return {"trained_on": subject.trained_on, "divided_by": subject.dataset.seed}


def _architecture(subject: Subject, opened: ModelFile | None, net_arch: str | None) -> str:
    """A name of the registry where one is known, else what the weights belong to."""
    if opened is None:
        return str(subject.origin.get("model", "")).partition("+")[0]
    if opened.kind not in STATE_DICTS:
        return CONVERTED.format(opened.kind)
    return net_arch or str(opened.facts.get("arch") or "recognised from its shapes")


def _network(module: nn.Module) -> nn.Module:
    """The network without its feeding."""
    return module.net if isinstance(module, InputAdapter) else module


def _changed(before: nn.Module, after: nn.Module) -> str:
    try:
        same_structure(before, after)
    except AirepairError as error:
        return one_line(error).partition(";")[0].removeprefix("the repair ")
    return ""
