"""The repair itself: what the method gets, the only timed call, and how it ended.

Any end of a method is a status with a reason.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from airepair.errors import OutOfTime, Unavailable, Unsupported, one_line
from airepair.evaluation.memory import noting, out_of_memory
from airepair.methods.information import present, restricted, sources_of
from airepair.records import Status
from airepair.runner.audit import Audit
from airepair.runner.cell import Deaf, Listener
from airepair.runner.column_budget import column_budget, declared
from airepair.runner.cost import Cost, measure, warm_up
from airepair.runner.events import Events, time_limit
from airepair.runner.global_state import GlobalState, lost_context
from airepair.runner.loading import changed, written
from airepair.runner.prepared import PreparedCell
from airepair.types import Split, Task, without_meter

# call(f) runs f(), which does nothing when it is called again; the fixture puts pytest-benchmark here.
Caller = Callable[[Callable[[], None]], object]
INPUTS = ("train", "failing", "passing", "unlabelled", "validation", "pool", "held_out")


@dataclass(eq=False)
class Repaired:
    """It says how a repair ended: the module (None if there is none), what was reported meanwhile,
    its cost and its log files.

    `lost`: state of the process that the method changed and that cannot be put back, or its device's.
    """

    module: nn.Module | None
    status: Status
    reason: str
    events: Events
    cost: Cost | None = None
    logs: dict[str, bytes] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


def repair(ready: PreparedCell, call: Caller = lambda f: f(), listener: Listener = Deaf()) -> Repaired:  # noqa: B008 (without state)
    """Runs the method once. What it did to its inputs, to the subject or to this process costs its own
    cell only.

    KeyboardInterrupt passes through where the user sent it.
    """
    warm_up()
    events = Events(ready.limit, listener.progress, listener.log)
    state = GlobalState()
    with TemporaryDirectory(prefix="airepair-") as folder, noting(events.note):
        task = task_of(ready, events, Path(folder))
        given = {name: value for name in handed_over(ready) if (value := _input_of(ready, name)) is not None}
        try:
            found = _called(ready, task, events, call)
        finally:
            back, lost = state.put_back()
        found.logs = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.is_file()}
    for name in back:
        events.note(f"the method changed the {name} of this process; it was put back")
    if found.status != "repaired" and (dead := lost_context(task.device)):
        found.lost = (*lost, *dead)  # what the method did to its inputs cannot be read any more
        return found
    if lost:
        found = Repaired(
            None,
            "failed",
            f"the method changed what cannot be put back: {', '.join(lost)}",
            events,
            found.cost,
            found.logs,
        )
        found.lost = tuple(lost)
    breach = [f"the {name} images that it was given" for name in written(task, given)]
    if spoilt := changed(ready.loaded.subject, ready.loaded.digests):
        ready.loaded.spoilt = True
        breach += spoilt
    if breach:
        reason = f"the method changed the data or the subject: {', '.join(breach)}"
        found = Repaired(None, "failed", reason, events, found.cost, found.logs, found.lost)
    return found


def handed_over(ready: PreparedCell) -> list[str]:
    """Returns the inputs that the method gets: those of its sources, and validation."""
    sources = sources_of(ready.method)
    return [name for name in INPUTS if name in sources or name in ("validation", "held_out")]


def _input_of(ready: PreparedCell, name: str) -> Split | Tensor | None:
    """What an input of the task must still be equal to after the repair."""
    data = ready.subject.dataset
    own: dict[str, Split | Tensor | None] = {
        "train": data.train,
        "failing": ready.failing,
        "passing": ready.passing,
        "unlabelled": data.repair.images(),
        "validation": data.validation,
        "pool": ready.subject.pool,
        "held_out": ready.held_out,
    }
    return own[name]


def task_of(ready: PreparedCell, events: Events, logs: Path | None = None) -> Task:
    """What the method gets: the sources that it states and no others."""
    task = whole_task(ready, events, logs)
    if getattr(ready.method, "matches_column", False):
        events.column = column_budget(task, ready.spec, ready.method)
        task = replace(task, column_budget=events.column)
    return restricted(task, sources_of(ready.method))


def whole_task(ready: PreparedCell, events: Events, logs: Path | None = None) -> Task:
    """Returns all that a method could get: copies of the module and of the data, the meter on the
    module, and no test split.
    """
    subject, data = ready.subject, ready.subject.dataset
    return Task(
        module=_metered(subject.module, events),
        train=data.train.clone(),
        failing=ready.failing.clone(),
        passing=ready.passing.clone(),
        unlabelled=data.repair.images().clone(),
        validation=data.validation.clone(),
        classes=data.classes,
        groups=data.groups,
        robustness=data.robustness,
        recipe=subject.recipe,
        seed=ready.case.seed,
        pool=None if subject.pool is None else subject.pool.clone(),
        environment=copy.deepcopy(subject.environment),
        checkpoints={name: _metered(module, events) for name, module in subject.checkpoints.items()},
        limit=ready.limit,
        meter=events.meter,
        progress=events.progress,
        keep=events.keep,
        note=events.note,
        logs=logs,
        held_out=None if ready.held_out is None else ready.held_out.clone(),
    )


def _metered(module: nn.Module, events: Events) -> nn.Module:
    own = copy.deepcopy(module)
    own.register_forward_pre_hook(events.meter)
    return own


def _called(ready: PreparedCell, task: Task, events: Events, call: Caller) -> Repaired:
    results: list[object] = []
    costs: list[Cost] = []
    ran: list[bool] = []
    audit = Audit(task) if ready.spec.audit else None

    def run() -> None:
        if ran:  # the profiler of pytest-benchmark calls again: the module is repaired already
            return
        ran.append(True)
        with audit or nullcontext():
            costs.append(measure(lambda: results.append(ready.method.repair(task)), task.device))

    end = Ending()
    with (
        torch.random.fork_rng(devices=[task.device] if task.device.type == "cuda" else []),
        recorded(end),
        time_limit(ready.limit.seconds),
    ):
        torch.manual_seed(ready.case.seed)
        events.sources, events.declared = (
            present(task, sources_of(ready.method)),
            declared(ready.method, task),
        )
        events.start = time.perf_counter()
        call(run)
    cost = costs[0] if costs else None
    if end.status == "repaired":
        return _audited(_module(results[0] if results else None, events, cost), audit)
    return Repaired(None, end.status, end.reason, events, cost)


def _audited(found: Repaired, audit: Audit | None) -> Repaired:
    """The repair, failed if its images do not explain its work; what was found is noted."""
    if audit is None or found.module is None:
        return found
    finding = audit.finding(found.module)
    if finding.passed:
        found.events.note(f"{finding}; seconds are those under the counter")
        return found
    return replace(found, module=None, status="failed", reason=str(finding))


def _module(result: object, events: Events, cost: Cost | None) -> Repaired:
    """What the method returned, as a module in evaluation mode."""
    if not isinstance(result, nn.Module):
        return Repaired(
            None,
            "failed",
            f"the method returned {type(result).__name__}; accepted: a torch.nn.Module",
            events,
            cost,
        )
    end = Ending()
    with recorded(end):
        without_meter(result).eval()
    return Repaired(result if end.status == "repaired" else None, end.status, end.reason, events, cost)


@dataclass
class Ending:
    """It says how a block of a method's own code ended."""

    status: Status = "repaired"
    reason: str = ""


@contextmanager
def recorded(end: Ending) -> Iterator[None]:
    """Whatever a method's code raises becomes a status and a reason: SystemExit, pytest's skip and a
    KeyboardInterrupt of its own as well.

    The user's own Ctrl-C passes through: it comes as a signal, which is heard here.
    """
    by_user: list[int] = []
    try:
        with _hearing(by_user):
            yield
    except Unsupported as error:
        end.status, end.reason = "unsupported", one_line(error)
    except Unavailable as error:
        end.status, end.reason = "skipped", one_line(error)
    except OutOfTime as error:
        end.status, end.reason = "timeout", one_line(error)
    except BaseException as error:
        if by_user:
            raise
        end.status, end.reason = "failed", one_line(error)
        if out_of_memory(error):
            gpu = isinstance(error, torch.cuda.OutOfMemoryError) or "CUDA" in end.reason
            end.status, end.reason = "out of memory", f"{'GPU' if gpu else 'host'} memory: {end.reason}"


@contextmanager
def _hearing(by_user: list[int]) -> Iterator[None]:
    """Notes in `by_user` that SIGINT came, and lets its handler do what it does."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return

    def heard(number: int, frame: object) -> None:
        by_user.append(number)
        handler(number, frame)  # type: ignore[arg-type]

    signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
