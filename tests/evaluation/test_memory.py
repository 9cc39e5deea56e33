"""Where memory does not suffice: smaller parts, a line in the record, the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.constraints.counterexamples import Hunt, Search, counterexamples
from airepair.constraints.parser import parse
from airepair.evaluation.exam import logits_of
from airepair.evaluation.memory import halving, noting, out_of_memory, say
from airepair.methods import build
from airepair.metrics.pgd import attack
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.training.best_state import fit
from airepair.types import Meter, Recipe

CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 8 bytes"
)
ERRORS: tuple[Callable[[], Exception], ...] = (
    MemoryError,
    lambda: torch.cuda.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError(CPU),
    lambda: torch.AcceleratorError("CUDA error: out of memory"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


class Small(nn.Module):
    """A network on a device that holds `most` images at a time."""

    def __init__(self, inside: nn.Module, most: int, error: Callable[[], Exception] = MemoryError) -> None:
        super().__init__()
        self.inside, self.most, self.error = inside, most, error

    def forward(self, x: Tensor) -> Tensor:
        """The network's logits; the error where the images are too many."""
        if len(x) > self.most:
            raise self.error()
        logits: Tensor = self.inside(x)
        return logits


class Calls(nn.Module):
    """A function as a network."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        """What the function returns."""
        return self.call(x)


@pytest.mark.parametrize("error", ERRORS)
def test_the_size_is_halved_until_it_fits(error: Callable[[], Exception]) -> None:
    """100, 50, 25, 12: each step is said; the result is the one that fitted."""
    notes: list[str] = []

    def call(size: int) -> int:
        if size > 12:
            raise error()
        return size

    with noting(notes.append):
        assert halving(call, 100, "things") == 12
    assert [n.split(";")[0] for n in notes] == [f"not enough memory for {n} things" for n in (100, 50, 25)]


def test_what_does_not_fit_at_all_and_what_is_another_error_is_raised() -> None:
    """One thing alone that is too large; a bug; both at once, without a note."""

    def fails(error: Exception) -> Callable[[int], Any]:
        def call(size: int) -> None:
            raise error

        return call

    notes: list[str] = []
    with noting(notes.append):
        with pytest.raises(MemoryError):
            halving(fails(MemoryError()), 1, "things")
        with pytest.raises(RuntimeError, match="shapes"):
            halving(fails(RuntimeError("shapes do not fit")), 64, "things")
    assert not notes
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_a_line_is_said_once_and_without_a_listener_it_is_a_warning() -> None:
    """Every evaluation of a cell would say the same."""
    notes: list[str] = []
    with noting(notes.append):
        say("a")
        say("a")
        say("b")
    assert notes == ["a", "b"]
    with pytest.warns(ResourceWarning, match="nobody listens"):
        say("nobody listens")


def test_an_evaluation_that_does_not_fit_gives_the_same_logits() -> None:
    """In parts of 31 instead of 250."""
    network, x = toy.subject("cnn").module, toy.images(250, 9).x
    notes: list[str] = []
    with noting(notes.append):
        found = logits_of(Small(network, 40), x)
    assert torch.allclose(found, logits_of(network, x), atol=1e-5)
    assert notes[-1].endswith("continued with 31")


def test_an_oracle_that_does_not_fit_searches_fewer_points_at_a_time() -> None:
    """From the same starts the same points."""
    network, data = toy.subject("plain").module, toy.images(20, 3)
    constraint = parse("forall z in box(x, 0.1): logp(z, y) >= log(0.5)", classes=toy.CLASSES)[0]
    notes: list[str] = []

    def searched(module: nn.Module) -> Tensor:
        points, labels = {"x": data.x}, {"y": data.y}
        return counterexamples(
            Hunt(constraint, Search(5)), module, points, labels, torch.Generator().manual_seed(1)
        )["z"]

    with noting(notes.append):
        found = searched(Small(network, 6))
    assert torch.allclose(found, searched(network), atol=1e-5)
    assert [n.split()[-1] for n in notes] == ["10", "5"]


def test_an_attack_that_does_not_fit_attacks_fewer_images_at_a_time() -> None:
    """With the same answers."""
    network, data = toy.subject("plain").module, toy.images(40, 3)
    with noting(lambda _: None):
        assert torch.equal(attack(Small(network, 25), data), attack(network, data))


def plain_network() -> nn.Module:
    """No batch norm: its gradient over a batch is the sum over its parts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("error", ERRORS)
def test_a_training_step_that_does_not_fit_goes_through_in_parts(error: Callable[[], Exception]) -> None:
    """The same weights up to rounding, every image counted once, said once; from the second step on
    the size is known.
    """
    data, recipe = toy.images(70, 5), Recipe(lr=0.1, batch_size=32, epochs=3)
    whole, small, meter = plain_network(), Small(plain_network(), 10, error), Meter()
    fit(whole, data, None, recipe, torch.Generator().manual_seed(1))
    small.register_forward_pre_hook(meter)
    tries: list[int] = []
    small.register_forward_pre_hook(lambda _, args: tries.append(len(args[0])))
    notes: list[str] = []
    with noting(notes.append):
        images = fit(small, data, None, recipe, torch.Generator().manual_seed(1))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(small.inside.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    assert meter.backward == images == 210
    assert [n.split()[-1] for n in notes] == ["16", "8"]
    assert all("in a training step" in n for n in notes)
    assert [n for n in tries if n > 10] == [32, 16]


def test_no_part_of_a_batch_is_one_image_alone() -> None:
    """Batch norm refuses it: seven images where three fit are three, two and two; where two do not
    fit the error is raised.
    """
    sizes: list[int] = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    small = Small(network, 3)
    small.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    with noting(lambda _: None):
        fit(small, toy.images(7, 5), None, Recipe(batch_size=7, epochs=1), torch.Generator())
        assert sizes == [7, 3, 2, 2]
        with pytest.raises(MemoryError):
            fit(Small(network, 1), toy.images(7, 5), None, Recipe(batch_size=7, epochs=1), torch.Generator())


@pytest.mark.parametrize("method", ["finetune", "deeprepair", "deeprepair_style", "dl2", "apricot"])
def test_a_repair_whose_batches_do_not_fit_ends_with_a_line_in_its_record(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None dies of it: the record is that of a repair, and names the smaller parts."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path))
    options: dict[str, dict[str, Any]] = {
        "finetune": {"epochs": 2},
        "deeprepair": {"epoch": 2},
        "deeprepair_style": {"epochs": 2, "corruption": "fog4"},
        "dl2": {"epochs": 2, "constraint": "RobustnessG(eps=0.1)", "oracle_steps": 1},
        "apricot": {"submodels": 3, "submodel_epochs": 1, "further_epochs": 1},
    }
    subject = toy.subject("cnn")
    small = replace(subject, module=Small(subject.module, 40), checkpoints={})
    record = run(prepare(Case("toy", "cnn", method, 0), small, build(method, options[method]))).record
    assert (record.status, record.reason) == ("repaired", "")
    assert any("in a training step" in n or "together" in n or "one by one" in n for n in record.notes)
    assert any("not enough memory" in n for n in record.notes)


def test_a_cell_that_does_not_fit_is_examined_all_the_same_and_says_so() -> None:
    """The record has the line and the scores; it is no failure."""
    subject = toy.subject("plain")
    ready = prepare(Case("toy", "plain", "noop", 0), subject, build("noop", {}))
    plain = run(ready).record
    small = prepare(
        Case("toy", "plain", "noop", 0), replace(subject, module=Small(subject.module, 50)), build("noop", {})
    )
    record = run(small).record
    assert record.status == "repaired"
    assert dict(record.after) == dict(plain.after)
    assert any("not enough memory for 120 images at once in an evaluation" in n for n in record.notes)


def test_an_evaluation_takes_at_most_a_batch_of_images_at_once() -> None:
    """Ten images in batches of four; fewer than a batch go together."""
    sizes: list[int] = []

    def network(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.flatten(1)

    x = toy.images(10, 9).x
    logits_of(Calls(network), x, 4)
    assert sizes == [4, 4, 2]
    sizes.clear()
    logits_of(Calls(network), x)
    assert sizes == [10]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.flatten(1).to_sparse(),
        lambda x: x.flatten(1).long(),
        lambda x: x,
        lambda x: x.flatten(1)[:-1],
    ],
    ids=["sparse", "whole numbers", "four dimensions", "an image short"],
)
def test_one_fault_is_enough_for_an_answer_to_be_no_logits(wrong: Callable[[Tensor], Tensor]) -> None:
    """Each answer is logits but for one property."""
    with pytest.raises(TypeError, match="the module returns"):
        logits_of(Calls(wrong), toy.images(3, 9).x)
