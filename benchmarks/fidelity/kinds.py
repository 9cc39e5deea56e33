"""Reads, repairs, writes back and reads again a file of every kind that people bring (the second
table of `table.py`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair.errors import AirepairError, one_line
from airepair.formats import open_model
from airepair.formats.answer import answer
from airepair.formats.fidelity import Fidelity, check_inputs, compare
from airepair.formats.model_file import ModelFile
from airepair.models.layouts import written
from airepair.models.user_code import own_code
from airepair.training.step import Stepper, augmentation
from airepair.types import Split
from benchmarks.fidelity.samples import keras_kinds, onnx_kinds, torch_kinds

TO_REPAIR, STEPS = 16, 500  # inputs that the network is to answer otherwise, and steps of Adam at most

ROOT = Path(__file__).parents[2]  # where `-m` finds this package
# The module that makes TensorFlow's files, and its functions by what they make; TensorFlow is never
# imported here.
TENSORFLOW_MAKERS = "benchmarks.fidelity.samples.tensorflow_kinds"
TENSORFLOW = {
    "flat vectors in a fixed batch, an accuracy behind the network": "accuracy",
    "TF1 SavedModel, classes and probabilities": "classes",
    "SavedModel with an optimizer's slots and a signature that trains": "trained",
    "SavedModel of Keras 3, each weight kept twice": "exported",
    "SavedModel with GELU, half a dozen operations each": "smooth",
}


@dataclass(frozen=True)
class Row:
    """One kind of one framework: fidelity of reading and of writing (None: nothing was converted),
    inputs repaired. `error`: why not.
    """

    framework: str
    about: str
    format: str = ""
    takes: str = ""
    read: Fidelity | None = None
    repaired: int = 0
    back: Fidelity | None = None
    error: str = ""


@dataclass(frozen=True)
class Kind:
    """How a file of the kind is made in a folder, and how it is opened."""

    framework: str
    about: str
    made: Callable[[Path], Path]
    options: Callable[[Path], Mapping[str, Any]] = lambda _: {}


def kinds() -> list[Kind]:
    """All of them, framework by framework."""
    found = [Kind("Keras", about, made) for about, made in keras_kinds.KINDS.items()]
    found += [Kind("TensorFlow", about, _in_a_process(name)) for about, name in TENSORFLOW.items()]
    found += [Kind("ONNX", about, made, lambda _: {"outputs": 5}) for about, made in onnx_kinds.KINDS.items()]
    return [
        *found,
        *(Kind("torch", about, made, _torch_options) for about, made in torch_kinds.KINDS.items()),
    ]


def _in_a_process(name: str) -> Callable[[Path], Path]:
    """TensorFlow is never imported here."""

    def make(folder: Path) -> Path:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            TENSORFLOW_MAKERS,
            str(folder),
            name,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            raise AirepairError(f"TensorFlow makes no such file here: {done.stderr.strip().splitlines()[-1]}")
        (path,) = folder.iterdir()
        return path

    return make


def _torch_options(path: Path) -> Mapping[str, Any]:
    script = path.with_name("train.py")
    classes = own_code(f"{script}:Net").layers if script.is_file() else ()
    return {"architecture": torch_kinds.architecture, "classes": classes, "shape": torch_kinds.SHAPE}


def rows(chosen: list[Kind], tell: Callable[[str], None]) -> Iterator[Row]:
    """The kinds, one after the other."""
    for kind in chosen:
        tell(f"{kind.framework}: {kind.about}")
        with tempfile.TemporaryDirectory() as folder:
            yield measure(kind, Path(folder))


def measure(kind: Kind, folder: Path) -> Row:
    """One row; the files are left in `folder`."""
    try:
        place = folder / "in"
        place.mkdir()
        path = kind.made(place)
        options = kind.options(path)
        opened = open_model(path, **options)
        shape = opened.shape or options["shape"]
        repaired = _repair(opened.module, shape)
        (folder / "out").mkdir()
        back = opened.write(opened.module, folder / "out" / path.name)
        again = open_model(folder / "out" / path.name, **options)
        _same(opened, again, shape)
    except (AirepairError, ModuleNotFoundError) as error:
        return Row(kind.framework, kind.about, error=one_line(error))
    return Row(kind.framework, kind.about, opened.kind, written(shape), opened.fidelity, repaired, back)


def _repair(module: nn.Module, shape: tuple[int, ...]) -> int:
    """How many of some inputs get another answer that is wanted of them, by training on these."""
    inputs = torch.from_numpy(check_inputs(shape)[:TO_REPAIR])
    wanted = (_answers(module, inputs) + 1) % len(module(inputs[:1])[0])
    data, optimizer = (
        Split(inputs.reshape(len(inputs), 1, 1, -1), wanted),
        torch.optim.Adam(module.parameters()),
    )

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x.reshape(-1, *inputs.shape[1:])), y)

    with Stepper(module, optimizer, loss, augmentation("none"), torch.Generator()) as step:
        for _ in range(STEPS):
            if bool((_answers(module, inputs) == wanted).all()):
                break
            step(data, torch.arange(len(data)), 0.01)
    return int((_answers(module, inputs) == wanted).sum())


def _answers(module: nn.Module, inputs: Tensor) -> Tensor:
    """The classes that the network gives, B."""
    with torch.no_grad():
        return torch.argmax(module(inputs), 1)


def _same(opened: ModelFile, again: ModelFile, shape: tuple[int, ...]) -> None:
    """Raises UsageError if what was written is not the repaired network in the format, layout and names
    of the original.
    """
    before, after = ((o.kind, o.shape, sorted(o.layers.values()), o.feed) for o in (opened, again))
    if before != after:
        raise AirepairError(f"it comes back as {after}, and was {before}")
    inputs = check_inputs(shape)
    found = compare(answer(opened.module, inputs, None), answer(again.module, inputs, None))
    if not found.faithful:
        raise AirepairError(f"what comes back is another network: {found}")


HEAD = (
    "| framework | kind | format | one input | read | repaired | written back |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def line(row: Row, shown: Callable[[Fidelity | None], str]) -> str:
    """The row in Markdown; `shown` is how a fidelity is written."""
    if row.error:
        return f"| {row.framework} | {row.about} | {row.error} | | | | |"
    repaired = f"{row.repaired} of {TO_REPAIR}"
    return (
        f"| {row.framework} | {row.about} | {row.format} | {row.takes} | {shown(row.read)} | "
        f"{repaired} | {shown(row.back)} |"
    )


def claim() -> str:
    """What the numbers are."""
    return (
        "Read and written back as above. Repaired: inputs of these whose answer the network learns to "
        "change, by training on them. Then the "
        "file is read again: it is of the same format, takes the same input and has the same layers, "
        "and it is the repaired network."
    )
