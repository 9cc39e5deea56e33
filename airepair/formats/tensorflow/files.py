"""TensorFlow files (frozen .pb, SavedModel): our side of the worker process.

TensorFlow is never imported here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import airepair
from airepair.errors import UsageError, shortened
from airepair.formats import OpenOptions
from airepair.formats.answer import answer
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.first_difference import INPUTS, first_departure
from airepair.formats.heads import HEADS, head_note, headed
from airepair.formats.mmdnn.ir import IRModel, renamed, without_head
from airepair.formats.mmdnn.to_torch import arrays_of, to_torch
from airepair.formats.model_file import InputScaling, ModelFile
from airepair.formats.tensorflow.exchange import restore, save
from airepair.host.atomic import replacing

SECONDS = 600
MEMORY = 24 << 30  # address space: TensorFlow maps several times what it uses


def open_file(path: Path, kind: str, options: OpenOptions) -> ModelFile:
    """Opens a frozen graph or a SavedModel; see open_model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _hand_over(options, folder)
        reply = work(
            folder, str(path), do="read", path=str(path.resolve()), kind=kind, bytes=options.max_bytes
        )
        read = restore(folder, reply["names"], reply["momentum"])
        outputs = _outputs(folder)
    whole = renamed(read)
    ir, head = without_head(whole)
    old = dict(zip((n.name for n in whole.graph.node), (n.name for n in read.graph.node), strict=True))
    module = to_torch(ir)
    feed = (
        InputScaling(tuple(reply["feed"][0]), tuple(reply["feed"][1]), "scaling at the input of the graph")
        if reply["feed"]
        else None
    )
    try:
        fidelity = _check(outputs, module, ir, feed, head, str(path), options.images)
    except UsageError as error:
        name = _departure(path, kind, module, ir, feed, options)
        raise UsageError(f"{error}; the first layer that differs: {name!r}") if name else error from None
    places = {
        (node, k): reply["places"][f"{old[node]}|{k}"] for node, kinds in ir.weights.items() for k in kinds
    }

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        if out.exists() and kind == "savedmodel":
            raise UsageError(f"{out} exists; a SavedModel is written to a folder that does not")
        new = arrays_of(repaired, ir)
        keys = {f"a{i}": places[address] for i, address in enumerate(places)}
        with replacing(out, keep_name=True) as temporary, tempfile.TemporaryDirectory() as work_name:
            folder = Path(work_name)
            arrays: Any = {f"a{i}": new[n][k] for i, (n, k) in enumerate(places)}
            np.savez(folder / "new.npz", **arrays)
            _hand_over(options, folder)
            places_of = {"path": str(path.resolve()), "out": str(temporary.resolve()), "keys": keys}
            work(folder, str(out), do="write", kind=kind, bytes=options.max_bytes, **places_of)
            return _check(_outputs(folder), repaired, ir, feed, head, str(out), options.images)

    notes = [head_note(head)] if head else []
    notes += (
        [f"the file does not say the batch-norm momentum; {next(iter(ir.momentum.values()))} is used"]
        if ir.momentum
        else []
    )
    notes += (
        [f"what stands behind its output ({', '.join(reply['behind'])}) is left as it is, and not run"]
        if reply["behind"]
        else []
    )
    notes += [
        "dropout of the training graph, if any, is not in a frozen graph: the network is repaired without it"
    ]
    notes += [f"scaling ({feed.source}) is kept in the file and taken out of the network"] if feed else []
    names, suffix = dict(ir.names), path.suffix if kind == "frozen-pb" else ""
    return ModelFile(
        module,
        kind,
        path,
        writer,
        ir.input_shape,
        feed,
        fidelity,
        tuple(notes),
        names,
        suffix,
        channels_last=True,
    )


def _departure(
    path: Path, kind: str, module: nn.Module, ir: IRModel, feed: InputScaling | None, options: OpenOptions
) -> str:
    """The first node of the graph whose activations differ.

    Convolutions and dense layers with a bias have two nodes there: the next tells.
    """
    names = {
        n.name: ir.names[n.name]
        for n in ir.graph.node
        if "bias" not in ir.weights.get(n.name, {}) or "mean" in ir.weights[n.name]
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder, facts = (
            Path(temporary),
            {"shape": list(ir.input_shape), "names": list(names.values()), "n": INPUTS},
        )
        reply = work(
            folder,
            str(path),
            do="layers",
            path=str(path.resolve()),
            kind=kind,
            bytes=options.max_bytes,
            **facts,
        )
        with np.load(folder / "layers.npz", allow_pickle=False) as arrays:
            found = {name: arrays[f"a{i}"] for i, name in enumerate(reply["names"])}
    return first_departure(module, check_inputs(ir.input_shape), feed, names, found.get)


def emit(model: IRModel, out: Path, kind: str, module: nn.Module) -> Fidelity:
    """Writes the IR as a frozen graph or SavedModel through MMdnn's TensorflowEmitter; `module` is
    what it must answer like.
    """
    with replacing(out, keep_name=True) as temporary, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(model, folder)
        work(
            folder,
            str(out),
            do="emit",
            kind=kind,
            out=str(temporary.resolve()),
            names=model.names,
            momentum=model.momentum,
            bytes=2 << 30,
        )
        outputs = _outputs(folder)
        found = compare(outputs["logits"], answer(module, check_inputs(model.input_shape), None))
        return require(found, str(out))


def work(folder: Path, what: str, **job: Any) -> dict[str, Any]:
    """Runs one job in the worker; what result.json says.

    UsageError, about the file `what`, for an error there, a crash, or no answer in time.
    """
    limits = {"memory": MEMORY, "seconds": SECONDS}
    (folder / "job.json").write_text(json.dumps({"folder": str(folder), "what": what, **limits, **job}))
    python = os.environ.get("AIREPAIR_TF_PYTHON") or sys.executable
    root = folder / "path"
    root.mkdir()
    (root / "airepair").symlink_to(Path(airepair.__file__).parent)
    quiet = {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
    }
    command = [python, "-W", "ignore", "-m", "airepair.formats.tensorflow.worker", str(folder / "job.json")]
    environment = {**os.environ, **quiet, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{what}: TensorFlow gave no answer in {SECONDS} s") from None
    except OSError as error:
        raise UsageError(
            f"the TensorFlow worker's interpreter {python!r} cannot be started: {error}"
        ) from None
    if not (folder / "result.json").is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UsageError(f"{what}: the TensorFlow worker died: {shortened(last, 200)}")
    return check_result(json.loads((folder / "result.json").read_text()))


def check_result(result: dict[str, Any]) -> dict[str, Any]:
    """Returns the result of a job; UsageError (ModuleNotFoundError) where it tells of one."""
    if "missing" in result:
        raise ModuleNotFoundError(f"No module named {result['missing']!r}", name=result["missing"])
    if "error" in result:
        raise UsageError(result["error"])
    return result


def _hand_over(options: OpenOptions, folder: Path) -> None:
    if options.images is not None:
        np.save(folder / "images.npy", np.asarray(options.images, np.float32))


def _outputs(folder: Path) -> dict[str, Any]:
    with np.load(folder / "outputs.npz", allow_pickle=False) as arrays:
        return {k: arrays[k] for k in arrays.files}


def _check(
    outputs: dict[str, Any],
    module: nn.Module,
    ir: IRModel,
    feed: InputScaling | None,
    head: str,
    what: str,
    images: Any,
) -> Fidelity:
    ours = answer(
        module, check_inputs(ir.input_shape, images, feed.largest if feed else 1.0, channels_last=True), feed
    )
    if outputs["logits"].ndim != 2:
        raise UsageError(
            f"{what}: the network's output has shape {outputs['logits'].shape}; N x classes was expected"
        )
    found = require(compare(outputs["logits"], ours), what)
    if head:
        require(compare(outputs["saved"], headed(ours, head)), what, f"the {HEADS[head]} at the end")
    return found
