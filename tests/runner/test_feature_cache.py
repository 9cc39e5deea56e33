"""A copy that differs from the subject in its last layer only is examined from what went into that layer."""

import copy

import pytest
import torch
from torch import nn

from airepair.case import Case
from airepair.evaluation.exam import sit
from airepair.methods import build
from airepair.runner.feature_cache import CHECKED, SPLITS, Examiner
from airepair.runner.loading import Loaded
from airepair.testing.cells import prepare, run
from airepair.testing.toy import subject


@pytest.fixture(scope="module")
def toy():
    """The convolutional toy."""
    return subject("cnn")


def edited(module: nn.Module, layer: int) -> nn.Module:
    """A copy with other weights in one layer."""
    found = copy.deepcopy(module)
    with torch.no_grad():
        found[layer].weight.add_(
            torch.randn(found[layer].weight.shape, generator=torch.Generator().manual_seed(1))
        )
    return found


def test_an_edited_last_layer_needs_a_handful_of_images_and_gives_the_same_bits(toy) -> None:
    """Logits from the kept features are those of the whole network; only the check passes images
    through it.
    """
    examiner, test = Examiner(toy.module), toy.dataset.test
    assert torch.equal(examiner.sit(toy.module, test).logits, sit(toy.module, test).logits)
    copied = edited(toy.module, -1)
    seen: list[int] = []
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda m, a: seen.append(len(a[0])) if isinstance(m, nn.Conv2d) else None
    )
    try:
        found = examiner.sit(copied, test)
    finally:
        handle.remove()
    assert sum(seen) == CHECKED
    assert torch.equal(found.logits, sit(copied, test).logits)


def test_whatever_else_differs_is_examined_as_a_whole(toy) -> None:
    """An earlier layer, something behind the last one, a hook, a changed forward: the exam is that
    of the module itself.
    """
    examiner, test = Examiner(toy.module), toy.dataset.test
    examiner.sit(toy.module, test)
    hooked, replaced = edited(toy.module, -1), edited(toy.module, -1)
    hooked[0].register_forward_hook(lambda m, a, out: out * 0)
    replaced[2].forward = lambda x: x * 2
    for module in (
        edited(toy.module, 0),
        nn.Sequential(edited(toy.module, -1), nn.Softplus()),
        hooked,
        replaced,
    ):
        assert torch.equal(examiner.sit(module, test).logits, sit(module.eval(), test).logits)


def test_a_subject_that_was_changed_in_place_is_examined_anew(toy) -> None:
    """What was kept is not given for what is no longer there."""
    module, test = copy.deepcopy(toy.module), toy.dataset.test
    examiner = Examiner(module)
    before = examiner.sit(module, test)
    with torch.no_grad():
        module[0].weight.mul_(0)
    assert not torch.equal(examiner.sit(module, test).logits, before.logits)


def test_what_is_kept_does_not_grow_with_the_cells(toy) -> None:
    """The failing inputs of cells long gone are let go; the test split, which every cell uses, stays."""
    examiner, test = Examiner(toy.module), toy.dataset.test
    for _ in range(3 * SPLITS):
        examiner.sit(toy.module, test)
        examiner.sit(toy.module, toy.dataset.repair.select(torch.arange(4)))
    assert len(examiner.kept) == SPLITS
    assert any(split is test for split in examiner.kept)


def test_several_cells_share_what_was_examined(toy) -> None:
    """The second method's scores before are the first's, and its record is that of a run of its own."""
    shared = Loaded(toy)
    records = []
    for name in ("noop", "memit"):
        alone = run(prepare(Case("toy", "cnn", name, 0), toy, build(name, {}))).record
        together = run(prepare(Case("toy", "cnn", name, 0), shared, build(name, {}))).record
        assert (together.before, together.after, together.missing) == (
            alone.before,
            alone.after,
            alone.missing,
        )
        records.append(together)
    assert records[0].before == records[1].before == records[0].after
    assert records[1].after != records[1].before
