"""A training's searches as one CUDA graph: all steps of the oracle recorded once, replayed for each
batch, nothing launched one by one.

(On one H100 a search over 128 images took a third of the time for a ResNet-18 and a seventh for the
MNIST CNN: launching the kernels of small batches costs more than their arithmetic.) The graph reads
the weights where they lie, so it sees every optimiser step; where they are moved elsewhere it is
recorded anew. Elsewhere than on CUDA, and where something but the harness's meter listens to the
network, the search runs as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from airepair.constraints.counterexamples import Ground, Hunt
from airepair.constraints.published import Constraint
from airepair.training.cuda_graph import Record, Recorded, graph_of
from airepair.training.step import recordable
from airepair.types import Meter, meters_of


class RecordedHunt:
    """It is a Hunt with its call recorded; `record` makes the replay (by default a CUDA graph on
    CUDA, and none elsewhere).
    """

    def __init__(self, hunt: Hunt, record: Record | None = None) -> None:
        self.hunt, self.record = hunt, record
        self.key: tuple[object, ...] = ()
        self.work: Recorded | None = None
        self.counts: dict[Meter, tuple[int, int]] = {}  # forward and backward images of one search

    @property
    def constraint(self) -> Constraint:
        """What is to be broken."""
        return self.hunt.constraint

    def grounds(self, points: Mapping[str, Tensor]) -> list[Ground]:
        """Returns the regions."""
        return self.hunt.grounds(points)

    def __call__(
        self,
        network: nn.Module,
        points: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        starts: Sequence[Tensor],
    ) -> Tensor:
        """The worst points: see Hunt."""
        record = self.record or (partial(graph_of, device=starts[0].device) if starts[0].is_cuda else None)
        if record is None or not recordable(network):
            return self.hunt(network, points, labels, starts)
        meters = meters_of(network)
        work = self._work(network, tuple(points), tuple(labels), record, meters)
        tensors = (*points.values(), *labels.values(), *starts)
        if work.replays(*tensors):
            for meter in meters:  # no hook counts a replay
                forward, backward = self.counts[meter]
                meter.add(forward, training=False)
                meter.add(backward, training=True)
            return work(*tensors)
        before = {meter: (meter.forward, meter.backward) for meter in meters}
        found = work(*tensors)
        if tuple(t.shape for t in tensors) == work.shapes:
            self.counts = {m: (m.forward - before[m][0], m.backward - before[m][1]) for m in meters}
        return found

    def _work(
        self,
        network: nn.Module,
        points: tuple[str, ...],
        labels: tuple[str, ...],
        record: Record,
        meters: Sequence[Meter],
    ) -> Recorded:
        """The recording for this network where its weights lie now."""
        key = (network, *(t.data_ptr() for t in (*network.parameters(), *network.buffers())))
        if self.work is None or key != self.key:

            def search(*tensors: Tensor) -> Tensor:
                cut = len(points) + len(labels)
                named = (
                    dict(zip(points, tensors[: len(points)], strict=True)),
                    dict(zip(labels, tensors[len(points) : cut], strict=True)),
                )
                return self.hunt(network, *named, tensors[cut:])

            self.key, self.work = key, Recorded(search, record, meters)
        return self.work
