"""What a method declares before the repair, in training images."""

from __future__ import annotations

import pytest

from airepair.methods import build
from airepair.testing import toy


@pytest.mark.parametrize("name", ["noop", "random", "lookup", "minimal", "memit"])
def test_a_method_that_trains_nothing_declares_nothing(name: str) -> None:
    """One image would already give it a control that was trained on one."""
    assert build(name, {}).budget(toy.task("mlp")) == 0


@pytest.mark.parametrize("both", [False, True])
def test_weighted_batch_norm_trains_on_its_second_half_in_one_form_only(both: bool) -> None:
    """Each pass over train and failing counts once; the second half where its loss counts."""
    task = toy.task("cnn")
    method = build("deeprepair", {"epoch": 3, "both_halves": both})
    assert method.budget(task) == 3 * len(task.labelled) * (2 if both else 1)
