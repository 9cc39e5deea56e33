"""Work of fixed shapes, recorded once as a CUDA graph and replayed: at small batches launching kernels
costs more than the arithmetic.

(On one H100 the paper's MNIST CNN trained six times as fast at batch 64.) The first calls run as
they stand, on a side stream; they are real calls, nothing is thrown away. Then the call is
recorded, and from there on its inputs are copied into fixed places and the graph is replayed.
Inputs of other shapes (a last batch) run as they stand. So does work that waits for the device: the
last of the first calls shows it, and it is never recorded, since torch does not recover from a
recording that fails. And so does everything where recording fails all the same, for lack of memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from airepair.types import Meter

WARM_UP = 3  # calls before recording: lazily made state (optimiser buffers, cuDNN plans) must exist by then
WAITS = "called a synchronizing CUDA operation"  # torch's warning (torch.cuda.set_sync_debug_mode)

Work = Callable[..., Tensor]
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


def graph_of(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Returns the work as a CUDA graph of that device: recorded here without being executed, executed
    by each call of what is returned.

    It is recorded on the stream that is current, on which it is replayed: cuBLAS has a workspace per
    stream, and graphs that are replayed side by side must not share one.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        here = torch.cuda.current_stream(device)
        # the default stream cannot be recorded
        stream = torch.cuda.Stream(device) if here == torch.cuda.default_stream(device) else here
        try:
            with torch.cuda.graph(graph, stream=stream):
                value = work()
        finally:
            torch.cuda.set_stream(here)  # torch leaves the recorded one where recording fails

    def replay() -> Tensor:
        graph.replay()
        return value.clone()  # the graph's own place is overwritten by the next call

    return replay


class Recorded:
    """It is `work(*tensors)` of the first call's shapes, replayed after WARM_UP calls; `record`
    makes the replay.

    `meters` listen to the work: what they hear while a recording fails was not computed, and is
    heard again when the work runs as it stands.
    """

    def __init__(self, work: Work, record: Record, meters: Sequence[Meter] = ()) -> None:
        self.work, self.record, self.meters = work, record, meters
        self.shapes: tuple[torch.Size, ...] | None = None
        self.calls = 0
        self.places: tuple[Tensor, ...] = ()
        self.replay: Callable[[], Tensor] | None = None
        self.failed = False

    def replays(self, *tensors: Tensor) -> bool:
        """Whether a call with these runs no Python of the work, so that no hook hears of it."""
        return self.replay is not None and tuple(t.shape for t in tensors) == self.shapes

    def __call__(self, *tensors: Tensor) -> Tensor:
        shapes = tuple(t.shape for t in tensors)
        self.shapes = self.shapes or shapes
        if self.failed or shapes != self.shapes:
            return self.work(*tensors)
        self.calls += 1
        device = tensors[0].device
        if self.calls < WARM_UP:
            return aside(lambda: self.work(*tensors), device)
        if self.calls == WARM_UP:
            value, self.failed = watched(lambda: aside(lambda: self.work(*tensors), device), device)
            return value
        if self.replay is None:
            self.places = tuple(t.clone(memory_format=torch.preserve_format) for t in tensors)
            marks = [(meter, meter.mark()) for meter in self.meters]
            try:
                self.replay = self.record(lambda: self.work(*self.places))
            except RuntimeError:  # whatever the reason: an error of the work's own is raised below
                self.failed, self.places = True, ()
                for meter, mark in marks:
                    meter.rewind(mark, computed=False)
        if self.replay is None:  # Outside the handler: the traceback holds what the recording allocated.
            if device.type == "cuda":
                torch.cuda.empty_cache()
            return self.work(*tensors)
        for place, tensor in zip(self.places, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        return self.replay()


def watched(work: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, bool]:
    """Returns the work, and whether it waited for the device as far as torch notices.

    Elsewhere than on CUDA nothing waits. What else it warns of is passed on.
    """
    if device.type != "cuda":
        return work(), False
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        caught.clear()  # that the mode is a prototype
        try:
            value = work()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    others = [w for w in caught if WAITS not in str(w.message)]
    for other in others:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return value, len(others) < len(caught)


def aside(work: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Returns the work on a side stream, in order with the current one: what recording wants of the
    calls before it.

    Elsewhere than on CUDA, plainly.
    """
    if device.type != "cuda":
        return work()
    here, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        value = work()
    here.wait_stream(side)
    return value
