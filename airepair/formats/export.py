"""A torch network written in another format: through MMdnn's IR to Keras and TensorFlow, by torch
itself to ONNX. The ending chooses.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from airepair.errors import AirepairError, UsageError, one_line
from airepair.formats.answer import answer
from airepair.formats.extra_layers import Scaled
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.library_warnings import hushed
from airepair.formats.mmdnn.from_torch import from_torch
from airepair.formats.mmdnn.ir import IRModel, renamed, with_scaling
from airepair.formats.model_file import InputScaling
from airepair.host.atomic import replacing
from airepair.models.layouts import Shape

# Ending -> what is written, and the extra that it needs.
TARGETS = {
    ".h5": ("Keras, HDF5", "keras,mmdnn"),
    ".hdf5": ("Keras, HDF5", "keras,mmdnn"),
    ".keras": ("Keras 3", "keras,mmdnn"),
    ".pb": ("frozen TensorFlow graph", "tf,mmdnn"),
    "": ("TensorFlow SavedModel folder", "tf,mmdnn"),
    ".onnx": ("ONNX", "onnx"),
    ".pt2": ("torch exported program", ""),
    ".pt": ("TorchScript", ""),
    ".pth": ("TorchScript", ""),
    ".safetensors": ("state dict", ""),
}


def refuse_target(out: Path) -> None:
    """Raises UsageError if `out` has an ending that is not written, or is there already."""
    if out.suffix not in TARGETS:
        raise UsageError(
            f"{out}: unknown ending {out.suffix!r}; accepted: "
            f"{', '.join(k or '(none: a folder)' for k in TARGETS)}"
        )
    if out.exists():
        raise UsageError(f"{out} exists and is not overwritten; give a path that does not")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")


def export(module: nn.Module, shape: Shape, out: Path, feed: InputScaling | None = None) -> Fidelity:
    """Writes the network (N x C x H x W -> logits) to `out`; how faithful the written file is.

    `feed` is a scaling that the written file does itself, at its input. UsageError above the
    tolerance, for an operation that the target does not have, and for a path that is there already.
    """
    refuse_target(out)
    training = {m: m.training for m in module.modules()}
    module.eval()
    try:
        if out.suffix in (".h5", ".hdf5", ".keras"):
            return _keras(module, shape, out, feed)
        if out.suffix in ("", ".pb"):
            from airepair.formats.tensorflow.files import emit

            kind = "frozen-pb" if out.suffix else "savedmodel"
            return emit(_ir(module, shape, feed), out, kind, _with_scaling(module, shape, feed))
        return _by_torch(_with_scaling(module, shape, feed), shape, out)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("airepair"):
            raise
        extra = TARGETS[out.suffix][1]
        raise UsageError(
            f"writing {out} needs {error.name}; install it with: pip install 'airepair[{extra}]'"
        ) from None
    finally:
        for part, was in training.items():
            part.training = was


def _ir(module: nn.Module, shape: Shape, feed: InputScaling | None) -> IRModel:
    model = renamed(from_torch(module, shape).model)
    return with_scaling(model, feed.scale, feed.offset) if feed else model


def _with_scaling(module: nn.Module, shape: Shape, feed: InputScaling | None) -> nn.Module:
    return Scaled(module, feed.scale, feed.offset, len(shape)).eval() if feed else module


def _keras(module: nn.Module, shape: Shape, out: Path, feed: InputScaling | None) -> Fidelity:
    from airepair.formats.keras.files import load, load_keras, outputs
    from airepair.formats.mmdnn.to_keras import to_keras

    keras = load_keras()
    inputs = check_inputs(shape)
    with replacing(out, keep_name=True) as temporary, hushed():  # Keras calls .h5 "legacy" each time
        model = to_keras(_ir(module, shape, feed))
        as_named = temporary.with_suffix(".keras" if out.suffix == ".keras" else ".h5")
        model.save(as_named)
        if as_named != temporary:
            as_named.rename(temporary)
        written = load(keras, temporary, "keras" if out.suffix == ".keras" else "keras-h5")
        return require(compare(outputs(keras, written, inputs), answer(module, inputs, feed)), str(out))


def _by_torch(module: nn.Module, shape: Shape, out: Path) -> Fidelity:
    try:
        return _torch(module, shape, out)
    except (AirepairError, ModuleNotFoundError, OSError):
        raise
    except Exception as error:  # whatever torch's exporters make of a network
        raise UsageError(
            f"{out}: torch cannot write the network as {TARGETS[out.suffix][0]}: {one_line(error, 160)}"
        ) from error


def _torch(module: nn.Module, shape: Shape, out: Path) -> Fidelity:
    images = torch.from_numpy(check_inputs(shape))
    with replacing(out, keep_name=True) as temporary, torch.no_grad(), hushed():
        ours = module(images).numpy()
        if out.suffix == ".onnx":
            from airepair.formats.onnx.files import answer as onnx_answer
            from airepair.formats.onnx.files import write

            write(module, shape, temporary)
            theirs = onnx_answer(temporary.read_bytes(), images.numpy())
            return require(compare(theirs, ours[: len(theirs)]), str(out))
        if out.suffix == ".pt2":
            batch = torch.export.Dim("batch", min=1)
            torch.export.save(
                torch.export.export(module, (images[:2],), dynamic_shapes=({0: batch},)), temporary
            )
            return require(compare(torch.export.load(temporary).module()(images).numpy(), ours), str(out))
        if out.suffix == ".safetensors":
            save_file({k: v.contiguous().clone() for k, v in module.state_dict().items()}, temporary)
            return compare(ours, ours)
        torch.jit.save(_script(module, images[:2]), str(temporary))
        return require(compare(torch.jit.load(str(temporary)).eval()(images).numpy(), ours), str(out))


def _script(module: nn.Module, images: torch.Tensor) -> Any:
    """TorchScript, scripted where it can be (dropout stays), traced where not."""
    whole = copy.deepcopy(module)
    try:
        return torch.jit.script(whole)
    except Exception:  # whatever the compiler does not know of Python
        return torch.jit.trace(whole, images)
