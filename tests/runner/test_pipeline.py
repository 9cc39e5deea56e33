"""The pipeline: what a method sees, what is counted, and what becomes of its errors."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from airepair.case import Case
from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import sit
from airepair.methods import build
from airepair.records import Record, read
from airepair.records.right_answers import indices, pack, unpack
from airepair.runner import events
from airepair.runner import outcome as outcomes
from airepair.runner import repair as repairing
from airepair.runner.cost import measure, resident
from airepair.runner.global_state import lost_context
from airepair.runner.outcome import Outcome, outcome
from airepair.runner.repair import repair
from airepair.runner.run import result_of
from airepair.runner.storage import file_before, file_result
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.types import Category, Limit, Method, Split, Subject, Task


@dataclass(frozen=True)
class Misbehaving:
    """Does what `how` says."""

    name: ClassVar[str] = "misbehaving"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[str]] = frozenset(("train", "failing"))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}
    how: str = "raise"

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        """Misbehaves."""
        if self.how == "raise":
            raise ValueError("a bug\nin two lines")
        if self.how == "unsupported":
            raise Unsupported("no such layer")
        if self.how == "memory":
            raise MemoryError("too large")
        if self.how == "loop":
            while True:
                time.sleep(0.01)
        if self.how == "nan":
            with torch.no_grad():
                next(task.module.parameters()).fill_(float("nan"))
        if self.how == "shape":
            return nn.Flatten()
        if self.how == "train":
            task.train.x.fill_(0.5)
        return task.module


def cell(method: Method, limit: Limit = Limit(), subject: Subject | None = None) -> Outcome:  # noqa: B008 (frozen)
    """One run on the toy subject."""
    return run(
        prepare(Case("toy", "mlp", str(method.name), 0), subject or toy.subject("mlp"), method, limit=limit)
    )


def breaks(*_: object) -> None:
    """As every call for a device whose context has ended."""
    raise RuntimeError("CUDA error: device-side assert triggered")


def test_only_a_cuda_device_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that it answers with is named."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert lost_context(torch.device("cuda")) == ()
    monkeypatch.setattr(torch.cuda, "synchronize", breaks)
    assert lost_context(torch.device("cpu")) == ()
    (found,) = lost_context(torch.device("cuda"))
    assert found == "CUDA context (RuntimeError: CUDA error: device-side assert triggered)"


def test_an_error_that_ends_the_cuda_context_ends_the_process_with_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The method's own error is its reason; nothing on the device is read after it."""
    subject = toy.subject("mlp")
    ready = prepare(Case("toy", "mlp", "misbehaving", 0), subject, Misbehaving())
    for module in (repairing, outcomes):
        monkeypatch.setattr(module, "lost_context", lambda _: ("CUDA context (gone)",))
    for module, name in (
        (repairing, "written"), (repairing, "changed"), (outcomes, "test_index"), (outcomes, "fingerprint")
    ):  # fmt: skip
        monkeypatch.setattr(module, name, breaks)
    found = result_of(ready, run(ready))
    assert found.lost == ("CUDA context (gone)",)
    assert (found.record.status, found.record.reason) == ("failed", "ValueError: a bug in two lines")
    assert found.record.notes[-1].endswith("which has lost its CUDA context (gone)")
    assert Record.from_json(found.record.to_json()).before == found.record.before


def test_an_exam_that_ends_the_cuda_context_fails_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights cannot be read any more, whichever of the states it was."""
    ready = prepare(Case("toy", "mlp", "misbehaving", 0), toy.subject("mlp"), Misbehaving("nothing"))
    assert run(ready).record.status == "repaired"
    monkeypatch.setattr(outcomes, "lost_context", lambda _: ("CUDA context (gone)",))
    found = run(ready)
    assert (found.module, found.lost) == (None, ("CUDA context (gone)",))
    assert found.record.reason == "an exam of a state ended the CUDA context (gone)"
    assert (found.record.after, found.record.phases) == ({}, ())


def test_a_cell_keeps_where_its_test_images_stand_in_the_data_set(tmp_path: Path) -> None:
    """predictions.npz holds their indices in the source data set; images that come from none are
    numbered by their place in the split.
    """
    subject = toy.subject("mlp")
    test = subject.dataset.test
    numbered = dataclasses.replace(test, index=torch.arange(len(test)).flip(0) + 1_000)
    placed = dataclasses.replace(subject, dataset=dataclasses.replace(subject.dataset, test=numbered))
    for found, expected in ((subject, np.arange(len(test))), (placed, np.arange(len(test))[::-1] + 1_000)):
        ready = prepare(Case("toy", "mlp", "noop", 0), found, build("noop", {}))
        folder = file_result(tmp_path, result_of(ready, run(ready)), "none")
        with np.load(folder / "predictions.npz") as kept:
            assert np.array_equal(kept["index"], expected)
            assert np.array_equal(kept["label"], test.y.numpy())


def test_a_record_holds_which_test_images_are_right() -> None:
    """By rising index, whatever the order of the split: before, after, and at each state that the
    method kept; the means are the accuracies.
    """
    subject = toy.subject("mlp")
    test = subject.dataset.test
    numbered = dataclasses.replace(test, index=torch.arange(len(test)).flip(0) + 1_000)
    placed = dataclasses.replace(subject, dataset=dataclasses.replace(subject.dataset, test=numbered))
    record = cell(build("finetune", {"epochs": 4}), subject=placed).record
    assert indices(record.right["tested"]).tolist() == list(range(1_000, 1_000 + len(test)))
    before = unpack(record.right["before"])
    assert np.array_equal(before[::-1], sit(subject.module, test).right.numpy())
    assert unpack(record.right["after"]).mean() == pytest.approx(record.after["accuracy"])
    assert record.phases
    for phase in record.phases:
        assert unpack(phase.right).mean() == pytest.approx(phase.scores["accuracy"])
    assert Record.from_json(record.to_json()) == record


def test_a_record_of_images_that_share_an_index_can_be_read() -> None:
    """Validation of a backdoored subject has each image and its copy with the trigger, and trials of a
    tuning are examined there: the images are numbered by their place.
    """
    subject = toy.subject("mlp")
    one = dataclasses.replace(
        subject.dataset.validation, index=torch.arange(len(subject.dataset.validation)) + 500
    )
    doubled = dataclasses.replace(subject, dataset=dataclasses.replace(subject.dataset, validation=one + one))
    ready = prepare(Case("toy", "mlp", "noop", 0), doubled, build("noop", {}), splits="validation")
    found = result_of(ready, run(ready))
    assert indices(found.record.right["tested"]).tolist() == list(range(2 * len(one)))
    assert Record.from_json(found.record.to_json()) == found.record


@pytest.mark.parametrize("n", [0, 1, 8, 497, 10_000])
def test_right_answers_survive_the_way_through_text(n: int) -> None:
    """Every length; a text that is none is one line."""
    bits = np.random.default_rng(n).random(n) < 0.8
    assert np.array_equal(unpack(pack(bits)), bits)
    for text in (pack(bits)[:-2], f"{n + 9}:{pack(bits).partition(':')[2]}", "3:", "x:eJwDAAAAAAE=", "many"):
        with pytest.raises(UsageError, match="accepted: what a record of airepair holds"):
            unpack(text)


@pytest.mark.parametrize(
    ("how", "status", "why"),
    [
        ("raise", "failed", "ValueError: a bug in two lines"),
        ("unsupported", "unsupported", "no such layer"),
        ("memory", "out of memory", "too large"),
        ("nan", "failed", "not finite"),
        ("shape", "failed", "accepted: (120, 4)"),
    ],
)
def test_a_method_that_misbehaves_becomes_a_status_with_a_reason(how: str, status: str, why: str) -> None:
    """No exception leaves the cell, and the scores before are kept."""
    record = cell(Misbehaving(how)).record
    assert record.status == status
    assert why in record.reason
    assert record.before["accuracy"] > 0.5
    assert not record.after


@pytest.mark.parametrize(
    ("said", "status"),
    [(np.int64(7), "repaired"), (7.0, "repaired"), (7.5, "failed"), (-1, "failed"), (float("nan"), "failed")],
)
def test_a_budget_that_is_no_number_of_images_fails_its_own_cell(
    said: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record can be read."""
    monkeypatch.setattr(Misbehaving, "budget", lambda *_: said)
    record = cell(Misbehaving("nothing")).record
    assert record.status == status, record.reason
    assert Record.from_json(record.to_json()) == record


def test_the_time_limit_ends_a_method_that_reports_nothing() -> None:
    """A silent endless loop is a timeout, not a hang."""
    record = cell(Misbehaving("loop"), Limit(seconds=0.3)).record
    assert record.status == "timeout"
    assert "0.3 s" in record.reason


def test_noop_changes_no_score() -> None:
    """Every difference is exactly 0."""
    record = cell(build("noop", {})).record
    assert record.after == record.before
    assert record.after["repair_rate"] == record.after["net_change"] == 0


def test_a_caller_that_calls_twice_repairs_once() -> None:
    """The profiler of pytest-benchmark does: the record is that of one repair, also if it raised."""
    ready = prepare(Case("toy", "mlp", "finetune", 0), toy.subject("mlp"), build("finetune", {"epochs": 2}))
    once, twice = (
        outcome(ready, repair(ready, call)).record for call in (lambda f: f(), lambda f: (f(), f()))
    )
    assert twice.budget == once.budget
    assert twice.subject["repaired_weights"] == once.subject["repaired_weights"]

    def again(f: Callable[[], None]) -> None:
        with suppress(ValueError):
            f()
        f()

    raising = prepare(Case("toy", "mlp", "misbehaving", 0), toy.subject("mlp"), Misbehaving())
    assert repair(raising, again).module is None


def test_the_budget_counts_images_with_and_without_gradients() -> None:
    """Fine-tuning for 3 epochs sees every labelled image 3 times; evaluation is counted apart, the
    kept states' too.
    """
    subject = toy.subject("mlp")
    outcome = cell(build("finetune", {"epochs": 3, "batch_size": 31, "lr": 0.01}), subject=subject)
    labelled = len(subject.dataset.train) + outcome.record.provenance["n"]["failing"]
    dropped = 1 if labelled % 31 == 1 else 0
    assert outcome.record.budget["backward"] == 3 * (labelled - dropped)
    examined = 4 + len(outcome.record.phases)
    assert outcome.record.budget["forward"] == examined * len(subject.dataset.validation)
    assert outcome.record.budget["declared"] == 3 * labelled
    assert "selection" not in outcome.record.budget
    assert [p.images for p in outcome.record.phases] == sorted(p.images for p in outcome.record.phases)


def test_the_meter_leaves_no_trace_on_the_repaired_module() -> None:
    """The returned module carries no hook of the harness."""
    module = cell(build("finetune", {"epochs": 1})).module
    assert module is not None
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_poisoned_test_data_does_not_change_the_repaired_weights() -> None:
    """The test split cannot reach a method: with other test images and labels the same weights come out."""
    subject = toy.subject("cnn")
    x = torch.rand_like(subject.dataset.test.x)
    poisoned = dataclasses.replace(
        subject, dataset=dataclasses.replace(subject.dataset, test=Split(x, subject.dataset.test.y.flip(0)))
    )
    for name in ("finetune", "apricot", "deeprepair", "dl2"):
        options = {
            "finetune": {"epochs": 2},
            "apricot": {"submodels": 3},
            "deeprepair": {"epoch": 2},
            "dl2": {"epochs": 2},
        }[name]
        weights = [
            cell(build(name, options), subject=s).record.subject["repaired_weights"]
            for s in (subject, poisoned)
        ]
        assert weights[0] == weights[1]


def test_a_cell_leaves_its_record_predictions_and_weights(tmp_path: Path) -> None:
    """What reports need later is on disk: no repair is run again for a new metric."""
    ready = prepare(Case("toy", "mlp", "finetune", 0), toy.subject("mlp"), build("finetune", {"epochs": 2}))
    file_before(tmp_path, ready.case, ready.scores, ready.missing)
    outcome = run(ready)
    folder = file_result(tmp_path, result_of(ready, outcome), "all")
    arrays = np.load(folder / "predictions.npz")
    assert float((arrays["after"] == arrays["label"]).mean()) == pytest.approx(
        outcome.record.after["accuracy"]
    )
    assert arrays["confusion_after"].sum() == len(arrays["label"])
    assert load_file(folder / "repaired.safetensors").keys() == ready.subject.module.state_dict().keys()
    assert {p.name for p in folder.iterdir()} >= {"before.json", "curve.jsonl", "cost.jsonl", "log.txt"}
    assert read([tmp_path])[0][0].key == "toy-mlp-finetune-s0"


def test_only_the_best_repaired_model_keeps_its_weights(tmp_path: Path) -> None:
    """With "best" one weight file a subject remains, the one with the best validation accuracy."""
    for name, options in (("random", {"norm": 1.0}), ("finetune", {"epochs": 8}), ("noop", {})):
        ready = prepare(Case("toy", "mlp", name, 0), toy.subject("mlp"), build(name, options))
        file_result(tmp_path, result_of(ready, run(ready)), "best")
    assert [p.parent.name for p in tmp_path.glob("cells/*/repaired.safetensors")] == ["toy-mlp-finetune-s0"]


def test_every_record_says_where_its_numbers_come_from() -> None:
    """Seed, n, device, threads, versions, commit, digests of data and weights."""
    record = cell(build("noop", {})).record
    assert {"commit", "dirty", "versions", "device", "threads", "time", "n"} <= record.provenance.keys()
    assert record.provenance["n"]["test"] == 120
    assert len(record.subject["weights"]) == 64
    assert record.cost["seconds"] >= 0
    assert record.cost["peak_bytes"] >= 0


def test_waiting_costs_seconds_but_no_cpu_seconds() -> None:
    """CPU seconds are of the work alone, so that other work on the same cores hardly moves them;
    those of a child count.
    """
    waited = measure(lambda: time.sleep(0.3), torch.device("cpu"))
    assert waited.seconds >= 0.3
    assert waited.cpu_seconds < 0.2
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    child = measure(
        lambda: subprocess.run([sys.executable, "-c", spin], check=True) and None, torch.device("cpu")
    )
    assert child.cpu_seconds >= 0.4


def test_the_memory_of_a_process_that_the_call_starts_counts() -> None:
    """Also that of a process which this one started; what ran before does not."""
    hold = "import time\nx = bytearray(60 * 2**20)\ntime.sleep(1.5)"
    words = [
        sys.executable,
        "-c",
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hold!r}], check=True)",
    ]
    with subprocess.Popen([sys.executable, "-c", hold.replace("1.5", "30")]) as earlier:
        try:
            time.sleep(0.5)
            alone = measure(lambda: time.sleep(0.3), torch.device("cpu"))
            cost = measure(lambda: subprocess.run(words, check=True) and None, torch.device("cpu"))
        finally:
            earlier.kill()
    assert alone.peak_bytes < 30 * 2**20
    assert 60 * 2**20 < cost.peak_bytes < 115 * 2**20
    assert cost.memory_source == "sampled resident memory with the processes that it started"
    assert alone.memory_source != cost.memory_source


def test_a_copy_of_this_process_holds_no_memory_of_its_own() -> None:
    """Between its start and its own program a child shows all of its parent's memory, which would
    count twice.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    try:
        assert psutil.Process(pid).memory_info().rss > 2**20
        assert resident(pid) == 0
    finally:
        os.write(writer, b"x")
        os.waitpid(pid, 0)


def test_a_method_that_reports_nothing_shows_its_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that it declared, once per QUIET seconds of silence, and never as a point of the curve."""
    now, shown = [0.0], []
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    heard = events.Events(Limit(), lambda *point: shown.append(point[:3]))
    heard.declared = 300
    for images in (100, 100, 50, 100):
        now[0] += events.QUIET / 2 + 1
        heard.meter.add(images, training=True)
        heard.meter.add(1000, training=False)
    assert shown == [(events.IMAGES, 200, 300), (events.IMAGES, 300, 300)]
    assert heard.curve == []
    heard.progress("training", 1, 2, 0.5)
    now[0] += events.QUIET - 1
    heard.meter.add(10, training=True)
    assert shown[2:] == [("training", 1, 2)]
