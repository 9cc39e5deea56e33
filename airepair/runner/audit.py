"""The audit of a budget: whether a repair's work is what its meter says (`--audit`, and in the
conformance kit).

An image costs the subject so many floating-point operations forward, and so many through a training
step: both are counted on two images. The repair runs under torch's counter, eagerly and on the CPU,
if nothing replays a recorded step. What is measured may be up to MOST times what the counted
images explain: arithmetic beside the network is free up to there, and
`airepair.evaluation.work.billed` counts it beyond.

Of a method that extends the network the larger of both networks is the measure. Not seen: what the
counter does not count (airepair/evaluation/work.py), other threads and other processes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torch import nn

from airepair.errors import UsageError
from airepair.evaluation.work import counter, forward_work, step_work
from airepair.types import Task, without_meter

MOST = 1.1


@dataclass(frozen=True)
class Finding:
    """It holds the operations that were measured, those that the counted images explain, and these
    images in words.
    """

    measured: int
    explained: float
    images: str

    @property
    def passed(self) -> bool:
        """Returns whether the images explain the work."""
        return self.measured <= MOST * self.explained

    def __str__(self) -> str:
        times = f"{self.measured / self.explained:.2f} times as many" if self.explained else "none"
        return (
            f"audit: {self.measured:,} operations measured, {self.explained:,.0f} explained by "
            f"{self.images} ({times}; at most {MOST})"
        )


class Audit:
    """It is a context around one repair of the task; then `finding(result)` compares."""

    def __init__(self, task: Task) -> None:
        if task.device.type != "cpu":
            raise UsageError(
                f"the audit counts operations on the CPU, and the task is on {task.device}; accepted: "
                f"--device cpu"
            )
        self.task = task
        self.cost = self._cost(task.module)
        self.counter = counter()

    def __enter__(self) -> Self:
        self.counter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.counter.__exit__(kind, error, trace)

    def finding(self, result: nn.Module) -> Finding:
        """What was measured beside what the meter explains; `result` is the repaired module."""
        meter = self.task.meter
        try:
            own = self._cost(result)
        except Exception:  # what is wrong with the result its exams say
            own = self.cost
        forward, step = map(max, zip(self.cost, own, strict=True))
        training = meter.backward + meter.selection
        images = f"{training:,} training and {meter.forward:,} forward images"
        return Finding(int(self.counter.get_total_flops()), training * step + meter.forward * forward, images)

    def _cost(self, module: nn.Module) -> tuple[float, float]:
        """Operations of an image forward and through a training step.

        All weights learn, whatever a method has frozen.
        """
        own, x = (
            without_meter(copy.deepcopy(module)).requires_grad_(True),
            self.task.validation.images(slice(2)),
        )
        return forward_work(own, x), step_work(own, x)
