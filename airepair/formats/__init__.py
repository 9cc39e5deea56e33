"""Model files of other tools: opened as torch modules of logits, repaired, and written back in the
format they came in. Loads no torch.

One module a format; each has `open_file(path, options) -> ModelFile`. How to add one:
docs/adding-a-format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airepair.errors import AirepairError, UsageError, one_line, printable
from airepair.formats.detect import MAX_BYTES, sniff
from airepair.formats.library_warnings import without_warnings

if TYPE_CHECKING:
    from airepair.formats.model_file import ModelFile

# Format -> the module that opens it, the extra that it needs, what it is.
FORMATS = {
    "torch": ("torch.weights", "", "state dict, checkpoint dictionary or pickled module of torch.save"),
    "safetensors": ("torch.weights", "", "state dict as safetensors"),
    "torchscript": ("torch.programs", "mmdnn", "torch.jit.save"),
    "exported": ("torch.programs", "mmdnn", "torch.export.save"),
    "keras-h5": ("keras.files", "keras,mmdnn", "Keras model as HDF5 (Keras 2 and 3)"),
    "keras": ("keras.files", "keras,mmdnn", "Keras 3 archive"),
    "frozen-pb": ("tensorflow.files", "tf,mmdnn", "frozen TensorFlow graph"),
    "savedmodel": ("tensorflow.files", "tf,mmdnn", "TensorFlow SavedModel folder"),
    "onnx": ("onnx.files", "onnx", "ONNX model"),
}


@dataclass(frozen=True)
class OpenOptions:
    """How far a file is trusted, and what is known about it.

    architecture  tensors of the file by name -> a module with those weights loaded (torch weight
                  files)
    classes       nn.Module classes of the user's own code that a pickled module may hold
    shape         one input of the network (C, H, W; 784; ...), where the file does not say it
                  (TorchScript)
    images        a few hundred images of the data set, N x C x H x W in [0, 1] (numpy): conversions
                  are checked on them too
    weights       the key of the weights that are meant, where a checkpoint dictionary holds several
    outputs       how many classes the data set has: tells the network's output from others of an
                  ONNX file
    max_bytes     the largest file (or unpacked archive) that is read
    """

    architecture: Callable[..., Any] | None = None
    classes: tuple[type, ...] = ()
    shape: tuple[int, ...] | None = None
    trust_pickle: bool = False
    trust_lambda: bool = False
    max_bytes: int = MAX_BYTES
    images: Any = None
    outputs: int | None = None
    weights: str | None = None


def open_model(
    path: str | Path,
    *,
    architecture: Callable[..., Any] | None = None,
    classes: tuple[type, ...] = (),
    shape: tuple[int, ...] | None = None,
    trust_pickle: bool = False,
    trust_lambda: bool = False,
    max_bytes: int = MAX_BYTES,
    images: Any = None,
    outputs: int | None = None,
    weights: str | None = None,
) -> ModelFile:
    """Opens a model file of any of FORMATS; see OpenOptions and ModelFile.

    UsageError, one line, for whatever is wrong with the file: unknown, damaged, not trusted, not
    convertible, not the same function afterwards.
    """
    try:
        opened = _opened(
            Path(path),
            OpenOptions(
                architecture, classes, shape, trust_pickle, trust_lambda, max_bytes, images, outputs, weights
            ),
        )
    except UsageError as error:
        text = printable(str(error))
        if text == str(error):
            raise
        raise UsageError(text) from None
    return replace(opened, notes=tuple(map(printable, opened.notes)))


def _opened(path: Path, options: OpenOptions) -> ModelFile:
    kind = sniff(path, options.max_bytes)
    place, extra, _ = FORMATS[kind]
    try:
        reader = import_module(f"airepair.formats.{place}")
        with without_warnings():
            opened: ModelFile = reader.open_file(path, kind, options)
    except AirepairError:
        raise
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("airepair"):
            raise
        raise UsageError(
            f"{path}: reading {kind} needs {error.name}; install it with: pip install 'airepair[{extra}]'"
        ) from None
    except RecursionError:
        raise UsageError(f"{path}: damaged {kind} file (nested too deeply)") from None
    except MemoryError:
        raise UsageError(f"{path}: the file asks for more memory than there is") from None
    except Exception as error:  # a foreign library met a foreign file: whatever it raises is about that file
        raise UsageError(f"{path}: cannot be read as {kind}: {one_line(error, 200)}") from error
    return opened
