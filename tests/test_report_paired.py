"""Paired tests over test images from the predictions that cells keep."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pytest

from airepair.report import render, write_all
from airepair.report.grid import grid
from airepair.report.paired import compare, mcnemar, paired
from tests.report_records import record


def keep(folder: Path, key: str, label: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Files predictions as a run does."""
    cell = folder / "cells" / key
    cell.mkdir(parents=True)
    np.savez_compressed(cell / "predictions.npz", label=label, before=before, after=after)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """8 gained, 1 lost: 2 (C(9,0) + C(9,1)) / 2^9; symmetric; no difference gives 1; thousands of images do not overflow."""
    assert mcnemar(8, 1) == mcnemar(1, 8) == pytest.approx(2 * (comb(9, 0) + comb(9, 1)) / 2**9)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0
    assert 0 < mcnemar(2_600, 2_400) < 0.01


def test_the_bootstrap_separates_a_gain_from_noise() -> None:
    """A gain on 8 % of the images in every seed is found; a coin flip is not; the difference is the mean over seeds."""
    generator = np.random.default_rng(1)
    base = generator.random((3, 500)) < 0.8
    better = base.copy()
    better[:, :40] = True
    base[:, :40] = False
    found = compare(better, base)
    assert found.difference == pytest.approx(0.08)
    assert found.low > 0
    assert found.p < 0.01
    noise = compare(generator.random((3, 500)) < 0.8, generator.random((3, 500)) < 0.8)
    assert noise.low < 0 < noise.high
    assert noise.p > 0.05


def test_seeds_that_disagree_widen_the_interval() -> None:
    """+8 %, 0 and -8 % in three seeds is no gain, however many images: seeds are drawn, too."""
    base = np.zeros((3, 2_000), bool)
    base[2, :160] = True
    better = np.zeros((3, 2_000), bool)
    better[0, :160] = True
    found = compare(better, base)
    assert found.difference == 0
    assert found.high - found.low > 0.05


def test_methods_are_compared_with_the_subject_and_with_finetune(tmp_path: Path) -> None:
    """One row each; a control is not compared with itself; a cell without predictions has no row; the same files give the same bytes."""
    label, before = np.zeros(200, np.int16), np.repeat([0, 1], 100).astype(np.int16)
    records = [record(f"digits-cnn-{m}-s{s}") for m in ("noop", "finetune", "dl2", "apricot") for s in (0, 1)]
    for s in (0, 1):
        keep(tmp_path, f"digits-cnn-finetune-s{s}", label, before, np.repeat([0, 1], [120, 80]).astype(np.int16))
        keep(tmp_path, f"digits-cnn-dl2-s{s}", label, before, np.repeat([0, 1], [150, 50]).astype(np.int16))
    table = paired(grid(records), tmp_path)
    assert table is not None
    assert [r.labels for r in table.rows] == [
        ("digits CNN", "finetune", "the subject"),
        ("digits CNN", "DL2", "the subject"),
        ("digits CNN", "DL2", "finetune"),
    ]
    assert [e.text for e in table.rows[2].entries][:3] == ["30, 30", "0, 0", "+15.00"]
    assert render([table], "txt") == render([paired(grid(records), tmp_path)], "txt")  # type: ignore[list-item]
    assert "paired.md" in {p.name for p in write_all(records, tmp_path)}


def test_without_predictions_there_is_no_document(tmp_path: Path) -> None:
    """No predictions, or a damaged file: no table and no error."""
    records = [record("digits-cnn-dl2-s0")]
    assert paired(grid(records), tmp_path) is None
    (tmp_path / "cells" / "digits-cnn-dl2-s0").mkdir(parents=True)
    (tmp_path / "cells" / "digits-cnn-dl2-s0" / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    assert paired(grid(records), tmp_path) is None


def test_other_test_images_are_not_paired(tmp_path: Path) -> None:
    """A control with other labels (another split) is not compared."""
    label = np.zeros(50, np.int16)
    keep(tmp_path, "digits-cnn-dl2-s0", label, label, label)
    keep(tmp_path, "digits-cnn-finetune-s0", label + 1, label, label)
    table = paired(grid([record("digits-cnn-dl2-s0"), record("digits-cnn-finetune-s0")]), tmp_path)
    assert table is not None
    assert ("digits CNN", "DL2", "finetune") not in [r.labels for r in table.rows]
