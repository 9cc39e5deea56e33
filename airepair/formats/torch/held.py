"""Does a written weight file hold the repaired network? Its own type of number may be coarser than
the network's: a repair of small steps is lost in a file of bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.formats import OpenOptions
from airepair.formats.answer import answer
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.mmdnn.ir import Array
from airepair.formats.torch.programs import guessed_shape
from airepair.models.layouts import LAYOUTS, Shape, shape_in


def as_held(
    held: nn.Module, repaired: nn.Module, tensors: Iterable[Tensor], options: OpenOptions, what: str
) -> Fidelity | None:
    """Compares the network `held` by the file that was written with the repaired one; None if
    every number is the same.

    A file whose own `tensors` are of a coarser type than the network's rounds the repair, and the
    fidelity says how much that changes. UsageError if another file answers otherwise.
    """
    own, read = repaired.state_dict(), held.state_dict()
    if all(torch.equal(tensor.cpu(), read[name].cpu()) for name, tensor in own.items()):
        return None
    inputs = _inputs(repaired, options, what)
    found = compare(answer(held, inputs, None), answer(repaired, inputs, None))
    coarser = max(map(_step, tensors)) > max(map(_step, own.values()))
    return found if coarser else require(found, what)


def _step(tensor: Tensor) -> float:
    """How coarse its type is: the step at 1; 0 of whole numbers."""
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _inputs(module: nn.Module, options: OpenOptions, what: str) -> Array:
    """Inputs that the network takes: of the shape that is known, of the data set's images in any
    layout, or of a common size.
    """
    for shape in _shapes(module, options, what):
        inputs = check_inputs(shape, options.images)
        try:
            answer(module, inputs[:1], None)
        except Exception:  # whatever a user's network raises on what it does not take
            continue
        return inputs
    raise UsageError(f"{what}: no inputs are known on which the written file could be checked")


def _shapes(module: nn.Module, options: OpenOptions, what: str) -> Iterator[Shape]:
    if options.shape is not None:
        yield options.shape
    if options.images is not None:
        image = tuple(options.images.shape[1:])
        yield from (shape for word in LAYOUTS if (shape := shape_in(word, image)) is not None)
    yield guessed_shape(module, what)
