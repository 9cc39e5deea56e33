"""A torch network written in another format: through MMdnn's IR to Keras and TensorFlow, by torch itself to ONNX. The ending chooses."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from airepair.errors import UsageError
from airepair.models.checkpoint import replacing
from airepair.models.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.models.formats.from_torch import from_torch
from airepair.models.formats.ir import renamed

TARGETS = {
    ".h5": "Keras, HDF5",
    ".hdf5": "Keras, HDF5",
    ".keras": "Keras 3",
    ".pb": "frozen TensorFlow graph",
    "": "TensorFlow SavedModel folder",
    ".onnx": "ONNX",
    ".pt2": "torch exported program",
    ".pt": "torch state dict",
    ".pth": "torch state dict",
    ".safetensors": "torch state dict",
}


def export(module: nn.Module, shape: tuple[int, int, int], out: Path) -> Fidelity:
    """Writes the network (N x C x H x W -> logits) to `out`; how faithful the written file is. UsageError above the tolerance."""
    if out.suffix not in TARGETS:
        raise UsageError(f"{out}: unknown ending {out.suffix!r}; accepted: {', '.join(k or '(none)' for k in TARGETS)}")
    if out.exists():
        raise UsageError(f"{out} exists; give a path that does not")
    module = module.eval()
    if out.suffix in (".h5", ".hdf5", ".keras"):
        return _keras(module, shape, out)
    if out.suffix in ("", ".pb"):
        from airepair.models.formats.tf_files import emit

        kind = "frozen-pb" if out.suffix else "savedmodel"
        return emit(renamed(from_torch(module, shape).model), out, kind, module)
    return _torch(module, shape, out)


def _keras(module: nn.Module, shape: tuple[int, int, int], out: Path) -> Fidelity:
    from airepair.models.formats.keras_files import answer, load, load_keras, outputs
    from airepair.models.formats.to_keras import to_keras

    keras = load_keras()
    inputs = check_inputs(shape)
    with replacing(out) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls .h5 "legacy" each time
        model = to_keras(renamed(from_torch(module, shape).model))
        as_named = temporary.with_suffix(".keras" if out.suffix == ".keras" else ".h5")
        model.save(as_named)
        if as_named != temporary:
            as_named.rename(temporary)
        written = load(keras, temporary, "keras" if out.suffix == ".keras" else "keras-h5")
        return require(compare(outputs(keras, written, inputs), answer(module, inputs, None)), str(out))


def _torch(module: nn.Module, shape: tuple[int, int, int], out: Path) -> Fidelity:
    images = torch.from_numpy(check_inputs(shape))
    with replacing(out) as temporary, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = module(images).numpy()
        if out.suffix == ".onnx":
            from airepair.models.formats.onnx_files import answer, write

            write(module, shape, temporary)
            return require(compare(answer(temporary, images.numpy()), ours), str(out))
        if out.suffix == ".pt2":
            batch = torch.export.Dim("batch", min=1)
            torch.export.save(torch.export.export(module, (images[:2],), dynamic_shapes=({0: batch},)), temporary)
            return require(compare(torch.export.load(temporary).module()(images).numpy(), ours), str(out))
        state = {k: v.contiguous() for k, v in module.state_dict().items()}
        if out.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, temporary)
        else:
            torch.save(state, temporary)
        return compare(ours, ours)
