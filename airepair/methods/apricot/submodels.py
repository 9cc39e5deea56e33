"""Training the submodels: together, on streams or one by one, from the cache if they are in
it; their images count in every way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from airepair.evaluation.memory import out_of_memory
from airepair.methods.apricot.cache import cached, key_of
from airepair.methods.apricot.schedule import quickest
from airepair.methods.apricot.stack import Stack, concatenated, floating, stacked
from airepair.methods.apricot.streams import InStreams
from airepair.methods.apricot.vmapped import Together
from airepair.training.best_state import CrossEntropy, Watch, fit, snapshot
from airepair.training.loop import Course, Epoch, images_of, passes, split
from airepair.types import Recipe, Split, Task, without_meter

Way = Literal["auto", "together", "streams", "one by one"]
SALT = 100  # submodel k draws from task.generator(SALT + k)


@dataclass(frozen=True, eq=False)
class Plan:
    """It describes K submodels: where they start, the window of train that each sees (all of one
    size), and the recipe.
    """

    start: nn.Module
    windows: Sequence[slice]
    recipe: Recipe
    way: Way = "auto"


def train(task: Task, plan: Plan, cache: Path | None) -> Stack:
    """Returns the trained submodels' tensors.

    Their images go to the task's meter, also when the cache has them: a budget is what a result
    costs.
    """
    plan = replace(plan, way=_way(task, plan))
    if cache is None:
        return _train(task, plan)
    counted = task.meter.backward
    key = key_of(plan.start, task.train, plan.windows, plan.recipe, task.seed, plan.way)
    stack, hit = cached(cache, key, task.device, lambda: _train(task, plan))
    if hit:
        size = plan.windows[0].stop - plan.windows[0].start
        task.meter.add(
            len(plan.windows) * plan.recipe.epochs * images_of(size, plan.recipe.batch_size), training=True
        )
        task.note(
            f"submodels: from the cache; their {task.meter.backward - counted:,} training images are counted"
        )
    return stack


def _way(task: Task, plan: Plan) -> Way:
    """The way that the plan names, or the quickest here.

    On the CPU its trial draws from the global generator (dropout), and what follows goes on from there:
    it runs also if the cache has the submodels, so that these give the same repair. On CUDA a clock
    decides how much is tried, and the generators are put back.
    """
    if plan.way != "auto":
        return plan.way
    cuda = task.device.type == "cuda"
    with torch.random.fork_rng(devices=[task.device]) if cuda else nullcontext():
        return quickest(plan.start, task.train, plan.windows[0], plan.recipe)


def _train(task: Task, plan: Plan) -> Stack:
    way, count = plan.way, len(plan.windows)
    task.note(f"submodels: {count} trained {'on streams' if way == 'streams' else way}")
    with torch.random.fork_rng(devices=[task.device] if task.device.type == "cuda" else []):
        torch.manual_seed(
            int(torch.randint(2**31, (), generator=task.generator(SALT - 1)))
        )  # dropout draws from the global generator
        return _one_by_one(task, plan) if way == "one by one" else _at_once(task, plan, way, count)


def _one_by_one(task: Task, plan: Plan) -> Stack:
    states, loss = [], CrossEntropy(plan.recipe.label_smoothing)
    for k, window in enumerate(plan.windows):
        module = without_meter(copy.deepcopy(plan.start))
        data = task.train.select(torch.arange(window.start, window.stop, device=task.device))
        phase = f"submodel {k + 1} of {len(plan.windows)}"
        watch = Watch(progress=task.progress)
        task.meter.add(
            fit(
                module, data, None, plan.recipe, task.generator(SALT + k), phase=phase, loss=loss, watch=watch
            ),
            training=True,
        )
        states.append(snapshot(module))
    return stacked(states, floating(plan.start))


def _at_once(task: Task, plan: Plan, way: Way, size: int) -> Stack:
    """Groups of `size` submodels; half as many at once where the memory does not suffice, one by
    one where two at once are too many.
    """
    mark, count = task.meter.mark(), len(plan.windows)
    try:
        return concatenated(
            [_group(task, plan, way, range(k, min(count, k + size))) for k in range(0, count, size)]
        )
    except (RuntimeError, MemoryError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
        if not out_of_memory(error):
            raise
    task.meter.rewind(mark)  # all of it is done again
    task.note(
        f"submodels: {size} at once do not fit into memory; "
        f"now {f'{size // 2} at once' if size > 1 else 'one by one'}"
    )
    return _at_once(task, plan, way, size // 2) if size > 1 else _one_by_one(task, plan)


def _group(task: Task, plan: Plan, way: Way, chosen: range) -> Stack:
    def heard(epoch: Epoch) -> None:
        task.meter.add(len(chosen) * epoch.images // epoch.number, training=True)
        task.progress("submodels", epoch.number, plan.recipe.epochs, epoch.loss)

    kind = InStreams if way == "streams" else Together
    part = replace(plan, windows=[plan.windows[k] for k in chosen])
    return at_once(kind, part, task.train, [task.generator(SALT + k) for k in chosen], heard)


def at_once(
    kind: type[InStreams] | type[Together],
    plan: Plan,
    train: Split,
    generators: Sequence[torch.Generator],
    heard: Callable[[Epoch], None] = lambda _: None,
) -> Stack:
    """Trains all submodels of the plan side by side, each with its own generator; `heard` gets
    every epoch.
    """
    size, batch = plan.windows[0].stop - plan.windows[0].start, plan.recipe.batch_size
    first, group = (
        torch.tensor([w.start for w in plan.windows])[:, None],
        kind(plan.start, train, plan.recipe, generators),
    )

    def order() -> Iterator[Tensor]:
        drawn = first + torch.stack([torch.randperm(size, generator=g) for g in generators])
        with group.side_by_side():
            yield from split(drawn.to(train.x.device), batch)

    with group:
        for epoch in passes(Course(plan.recipe.epochs, images_of(size, batch), order), group.step):
            heard(epoch)
        return group.stack()
