"""bf16 autocast and channels_last on the CPU: where they apply, what stays float32, and that every
method bears them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import nn

from airepair.case import Case
from airepair.evaluation import exam
from airepair.evaluation.exam import sit
from airepair.host.arithmetic import precision
from airepair.host.arithmetic.precision import bf16_pays, laid_out, lowered, mark, precision_of
from airepair.methods import build
from airepair.methods.apricot.schedule import quickest
from airepair.runner import prepared
from airepair.subjects import baseline
from airepair.subjects.recipes import training_of
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.training.best_state import Watch, fit, optimizer_of
from airepair.types import Recipe, Split
from benchmarks.grid import methods
from benchmarks.perf.agreement import Emulated, compared_means

CPU = torch.device("cpu")


@pytest.fixture
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with bf16 instructions; any processor can compute in bf16."""
    monkeypatch.setattr(precision, "bf16_pays", lambda: True)


def marked(kind: toy.Architecture = "cnn") -> nn.Module:
    """The toy's network, marked as a real data set's is."""
    return mark(copy.deepcopy(toy.subject(kind).module), "cifar10", CPU)


def test_convolutions_are_marked_and_digits_never_for_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """By data set, layers, device and processor; a network that nobody marked computes as it stands."""
    for pays, found in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(precision, "bf16_pays", lambda p=pays: p)
        assert precision_of(mark(toy.architecture("cnn"), "mnist", CPU)) == found
        assert precision_of(mark(toy.architecture("cnn"), "cifar10+fog3", CPU)) == found
        assert precision_of(mark(toy.architecture("cnn"), "digits", CPU)) == "float32"
        assert precision_of(mark(toy.architecture("cnn"), "digits+fog3", CPU)) == "float32"
    for kind, dataset, device in (
        ("mlp", "mnist", "cpu"),
        ("cnn", "mnist", "cuda"),
    ):
        assert precision_of(mark(toy.architecture(kind), dataset, torch.device(device))) == "plain"  # type: ignore[arg-type]
    assert precision_of(toy.architecture("cnn")) == "plain"


def test_exams_on_cuda_are_float32() -> None:
    """TF32, which some cards have, is off within, also for a model that sets cuDNN's flags itself, and
    afterwards as it was: as torch has it, or as its user does.
    """
    cudnn = torch.backends.cudnn

    def found() -> tuple[str, str]:
        return cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision

    assert (found(), cudnn.allow_tf32) == (("tf32", "tf32"), True)
    with precision.in_float32(torch.device("cuda")):
        assert (found(), cudnn.allow_tf32) == (("ieee", "ieee"), False)
        with cudnn.flags(enabled=False):
            pass
        assert "tf32" not in found()
    with suppress(ZeroDivisionError), precision.in_float32(torch.device("cuda")):
        _ = 1 / 0
    assert (found(), cudnn.allow_tf32) == (("tf32", "tf32"), True)
    with precision.in_float32(CPU):
        assert found() == ("tf32", "tf32")
    try:
        cudnn.conv.fp32_precision = "ieee"
        with precision.in_float32(torch.device("cuda")):
            pass
        assert found() == ("ieee", "tf32")
    finally:
        cudnn.conv.fp32_precision, cudnn.allow_tf32 = "tf32", True


@pytest.mark.parametrize("quick", [False, True])
def test_an_exam_while_a_repair_runs_is_as_quick_as_the_device_can(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those that a record reports ask for float32."""
    asked: list[torch.device] = []

    @contextmanager
    def noted(device: torch.device) -> Iterator[None]:
        asked.append(device)
        yield

    monkeypatch.setattr(exam, "in_float32", noted)
    sit(toy.subject("mlp").module, toy.images(5, 1), quick=quick)
    assert asked == ([] if quick else [CPU])


def test_an_attack_on_cuda_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its search as well as its answer: a record reports it."""
    inside: list[bool] = []

    @contextmanager
    def noted(device: torch.device) -> Iterator[None]:
        inside.append(True)
        yield
        inside.clear()

    def attack(module: nn.Module, split: Split) -> torch.Tensor:
        assert inside
        return torch.ones(len(split), dtype=torch.bool)

    monkeypatch.setattr(prepared, "in_float32", noted)
    monkeypatch.setattr(prepared, "attack", attack)
    case = Case("toy", "mlp", "noop", 0)
    assert prepare(case, toy.subject("mlp"), build("noop", {}), pgd=True).scores["pgd_accuracy"] == 1.0


@pytest.mark.usefixtures("pays")
def test_within_the_block_a_network_computes_in_bf16_and_answers_in_float32() -> None:
    """Inside layers see bf16 and images in channels_last; logits are float32; after the block all
    is as before, also after an error.
    """
    module, x, seen = marked(), toy.images(16, 1).images(), []
    module[1].register_forward_hook(lambda _m, args, _out: seen.append(args[0]))
    before = module(x)
    with lowered(module):
        inside = module(x)
        with pytest.raises(RuntimeError):
            module(x[:, :, :2])
        assert not torch.is_autocast_enabled("cpu")
    assert inside.dtype == torch.float32
    assert [t.dtype for t in seen[:2]] == [torch.float32, torch.bfloat16]
    assert seen[1].is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(before, inside)
    torch.testing.assert_close(before, inside, atol=0.2, rtol=0.05)
    assert torch.equal(module(x), before)
    assert len(module._forward_pre_hooks) == len(module._forward_hooks) == 0


@pytest.mark.usefixtures("pays")
def test_an_exam_is_float32_unless_it_only_selects() -> None:
    """What a record reports equals the unmarked network's answers up to the rounding of another layout."""
    module, split = marked(), toy.dataset().test
    exam = sit(module, split).logits
    torch.testing.assert_close(exam, sit(toy.subject("cnn").module, split).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(exam, sit(module, split, quick=True).logits, atol=1e-5, rtol=1e-5)
    assert laid_out(module, torch.zeros(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("pays")
def test_training_steps_are_in_bf16_on_float32_weights() -> None:
    """Every forward pass of the loss and of the validation that selects; what is kept on the way
    carries no hook.
    """
    module, kept, types = marked(), [], set()
    module[1].register_forward_hook(lambda _m, args, _out: types.add(args[0].dtype))
    data = toy.dataset()
    watch = Watch(keep=lambda _, m: kept.append(copy.deepcopy(m)), marks={"first": 1})
    fit(module, data.train, data.validation, Recipe(epochs=2), torch.Generator().manual_seed(0), watch=watch)
    assert types == {torch.bfloat16}
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert precision_of(kept[0]) == "bf16"
    assert not kept[0]._forward_pre_hooks


def test_in_channels_last_a_training_is_the_same_up_to_rounding() -> None:
    """A network of digits gets its images in channels_last and a fused optimiser, and after two
    epochs stands where an unmarked one does.
    """
    data, recipe = toy.dataset(), Recipe(epochs=2, lr=0.01, momentum=0.9, weight_decay=1e-3)
    networks = [copy.deepcopy(toy.subject("cnn").module) for _ in range(2)]
    mark(networks[1], "digits", CPU)
    layouts = []
    for module in networks:
        handle = module[1].register_forward_hook(
            lambda _m, args, _out: layouts.append(args[0].stride(1))
        )  # 1: channels_last
        fit(module, data.train, None, recipe, torch.Generator().manual_seed(0))
        handle.remove()
    assert layouts[0] > 1
    assert layouts[-1] == 1
    assert [optimizer_of(m, recipe).defaults["fused"] for m in networks] == [None, True]
    assert not torch.equal(networks[0][0].weight, toy.subject("cnn").module[0].weight)
    for one, other in zip(*(m.state_dict().values() for m in networks), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("pays")
def test_submodels_of_a_network_in_bf16_train_one_by_one() -> None:
    """vmap stops under autocast, and float32 submodels would be another arithmetic than the column's."""
    task = toy.task("cnn")
    assert quickest(task.module, task.train, slice(0, 40), Recipe(batch_size=16)) == "together"
    assert quickest(marked(), task.train, slice(0, 40), Recipe(batch_size=16)) == "one by one"


def test_the_cache_of_baselines_tells_precisions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline of one is never taken for another's."""
    data, training, keys = toy.dataset(), training_of("digits", "cnn"), []
    for pays in (True, False):
        monkeypatch.setattr(precision, "bf16_pays", lambda p=pays: p)
        keys.append(baseline.key_of(mark(toy.architecture("cnn"), "mnist", CPU), data, training, 0))
    keys.append(baseline.key_of(toy.architecture("cnn"), data, training, 0))
    assert [k.get("precision") for k in keys] == ["bf16", "float32", None]


def test_bf16_needs_instructions_and_a_clear_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the instructions nothing is measured; with them 1.2 times as fast is the least."""
    seconds = {torch.float32: 1.2, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_seconds", lambda dtype: seconds[dtype])
    for capabilities, bf16, expected in (
        ({}, 0.1, False),
        ({"avx512_bf16": True}, 1.0, True),
        ({"amx_bf16": True}, 1.01, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c)
        seconds[torch.bfloat16] = bf16
        bf16_pays.cache_clear()
        assert bf16_pays() is expected
    bf16_pays.cache_clear()


def test_the_measurement_takes_about_a_second() -> None:
    """Both kinds give seconds of a step on this processor."""
    assert 0 < precision._seconds(torch.float32) < precision.SECONDS
    assert 0 < precision._seconds(torch.bfloat16) < 5 * precision.SECONDS


SMALL: dict[str, dict[str, object]] = {
    "apricot": {"submodels": 3, "submodel_epochs": 1, "further_epochs": 1},
    "arachne": {"population": 4, "generations": 2, "search": "pso"},
    "aprnn": {"points": 3},
    "care": {"iterations": 2, "sample": 4},
    "counterexample": {"rounds": 1, "epochs": 1, "samples": 20, "keep": 10},
    "deepcorrect": {"epochs": 1, "sample": 20, "layers": 1, "distortion": "blur"},
    "deeprepair": {"epoch": 1},
    "deeprepair_style": {"epochs": 1},
    "dl2": {"epochs": 1, "constraint": "RobustnessT(eps1=1.6, eps2=0.1)", "oracle_steps": 2},
    "editable": {"group": 4, "rehearsal": 4},
    "finetune": {"epochs": 1},
    "irepair": {"iterations": 3, "points": 4},
    "mode": {"rounds": 1, "epochs": 1, "probes": 50},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", methods())
@pytest.mark.usefixtures("pays")
def test_every_method_repairs_a_network_in_bf16(method: str) -> None:
    """It ends as it does in float32, the result computes in float32 outside of training, and the
    record names the arithmetic.
    """
    subject = toy.subject("cnn")
    for module in (subject.module, *subject.checkpoints.values()):
        mark(module, "cifar10", CPU)
    ready = prepare(Case("toy", "cnn", method, 0), subject, build(method, SMALL.get(method, {})))
    record = run(ready).record
    assert record.status in ("repaired", "unsupported"), record.reason
    assert record.provenance["arithmetic"] == record.fingerprint["arithmetic"] == "bf16"


def test_accuracies_agree_within_the_spread_over_seeds() -> None:
    """A difference of two standard errors is the most; equal lists differ by nothing."""
    one = [0.50, 0.52, 0.54]
    assert compared_means(one, one) == {
        "accuracies": {"float32, contiguous": one, "marked": one},
        "difference_of_means": 0.0,
        "spread": pytest.approx(0.02),
        "agrees": True,
    }
    assert compared_means(one, [a + 0.03 for a in one])["agrees"]
    assert not compared_means(one, [a + 0.04 for a in one])["agrees"]


@pytest.mark.parametrize("network", [nn.Conv2d(3, 8, 3, padding=1), nn.Linear(12, 8)])
def test_emulated_bf16_sums_in_float32_and_rounds_once(network: nn.Module) -> None:
    """Forward and backward, as a processor with bf16 instructions computes: the rounded factors'
    float32 results, rounded; nothing else is touched.
    """
    torch.manual_seed(0)
    x = torch.randn(4, *((3, 6, 6) if isinstance(network, nn.Conv2d) else (12,)))
    rounded = copy.deepcopy(network)
    for weight in rounded.parameters():
        weight.data = weight.data.bfloat16().float()
    inputs = [x.clone().requires_grad_(), x.bfloat16().float().requires_grad_()]
    plain = network(x)
    with Emulated():  # type: ignore[no-untyped-call]
        assert torch.equal(network(x), plain)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            found = network(inputs[0])
        found.float().sum().backward()
    wanted = rounded(inputs[1])
    wanted.sum().backward()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted.bfloat16())
    assert torch.equal(inputs[0].grad, inputs[1].grad.bfloat16().float())
    for ours, theirs in zip(network.parameters(), rounded.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad.bfloat16().float())
