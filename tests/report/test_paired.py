"""Paired tests over seeds and test images from the predictions that cells keep."""

from __future__ import annotations

from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest

from airepair.report import render, write_all
from airepair.report.cells import grid
from airepair.report.comparison import fewest_seeds, holm
from airepair.report.paired import paired
from airepair.report.statistics import Pair, by_image, by_seed, mcnemar, permuted
from tests.report_records import answered, record


def pairs(first: np.ndarray, second: np.ndarray, index: np.ndarray | None = None) -> list[Pair]:
    """One pair a row; the same images at every seed unless `index` says otherwise."""
    where = np.broadcast_to(np.arange(first.shape[1]), first.shape) if index is None else index
    return [Pair(f, s, i) for f, s, i in zip(first, second, where, strict=True)]


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """8 gained, 1 lost: 2 (C(9,0) + C(9,1)) / 2^9; symmetric; no difference gives 1; thousands of
    images do not overflow.
    """
    assert mcnemar(8, 1) == mcnemar(1, 8) == pytest.approx(2 * (comb(9, 0) + comb(9, 1)) / 2**9)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0
    assert 0 < mcnemar(2_600, 2_400) < 0.01


def test_the_bootstrap_separates_a_gain_from_noise() -> None:
    """A gain on 8 % of the images in every seed is found; a coin flip is not; the difference is the
    mean over seeds.
    """
    generator = np.random.default_rng(1)
    base = generator.random((3, 500)) < 0.8
    better = base.copy()
    better[:, :40] = True
    base[:, :40] = False
    found = by_image(pairs(better, base))
    assert found.difference == pytest.approx(0.08)
    assert found.low > 0
    assert found.bootstrap < 0.01
    noise = by_image(pairs(generator.random((3, 500)) < 0.8, generator.random((3, 500)) < 0.8))
    assert noise.low < 0 < noise.high
    assert noise.p > 0.05


def test_three_seeds_that_agree_do_not_decide() -> None:
    """The signs of three equal differences come out alike in 2 of 8 turns, whatever the bootstrap
    says: p is .25, and 2 / 2^5 at five seeds.
    """
    for seeds, expected in ((3, 0.25), (5, 0.0625), (10, 2 / 2**10)):
        found = by_image(pairs(np.ones((seeds, 300), bool), np.zeros((seeds, 300), bool)))
        assert found.bootstrap < 0.01
        assert found.p == found.permutation == pytest.approx(expected)
    assert by_image(pairs(np.ones((1, 300), bool), np.zeros((1, 300), bool))).p == 1


def test_the_permutation_test_is_exact() -> None:
    """By hand: of the 32 ways to give five differences a sign, 6 have a mean at least as far from zero."""
    assert permuted([0.03, 0.01, 0.04, 0.02, -0.01]) == pytest.approx(
        _by_hand([0.03, 0.01, 0.04, 0.02, -0.01])
    )
    assert permuted([0.0, 0.0, 0.0]) == 1


def _by_hand(values: list[float]) -> float:
    turned = [
        abs(sum(v * s for v, s in zip(values, signs, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    return sum(t >= abs(sum(values)) - 1e-12 for t in turned) / len(turned)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """+8 %, 0 and -8 % in three seeds is no gain, however many images: seeds are drawn, too."""
    base = np.zeros((3, 2_000), bool)
    base[2, :160] = True
    better = np.zeros((3, 2_000), bool)
    better[0, :160] = True
    found = by_image(pairs(better, base))
    assert found.difference == 0
    assert found.high - found.low > 0.05


def test_images_that_seeds_share_are_one_cluster() -> None:
    """The same 25 of 100 images gained at each of ten seeds: tested on the same images, the interval
    is that of 100 images; on ten different hundreds it is that of a thousand, widened by drawing
    the seeds as well (a factor of 1.9 = 1 + 9/10 in the variance).
    """
    better, base = np.zeros((10, 100), bool), np.zeros((10, 100), bool)
    better[:, :25] = True
    shared = by_image(pairs(better, base))
    apart = by_image(pairs(better, base, np.arange(1_000).reshape(10, 100)))
    assert shared.difference == apart.difference == 0.25
    ratio = (shared.high - shared.low) / (apart.high - apart.low)
    assert ratio == pytest.approx((10 / 1.9) ** 0.5, rel=0.1)


def test_the_order_of_a_seeds_images_does_not_matter() -> None:
    """The index leads: the images of a seed in another order give the same bytes."""
    generator = np.random.default_rng(2)
    first, second = generator.random((2, 4, 60)) < 0.7
    index = np.stack([generator.permutation(200)[:60] for _ in range(4)])
    turned = [Pair(p.first[::-1], p.second[::-1], p.index[::-1]) for p in pairs(first, second, index)]
    assert by_image(turned) == by_image(pairs(first, second, index))


def test_holms_correction_is_the_step_down_of_bonferroni() -> None:
    """Holm (1979): the smallest of three p is tripled, the next doubled, none falls below one
    before it, none exceeds 1; the order stays.
    """
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.02]) == pytest.approx([0.9, 0.04])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_methods_are_compared_with_the_subject_and_with_finetune(tmp_path: Path) -> None:
    """One row each; a control is not compared with itself; a cell that holds no answers has no row;
    the same records give the same bytes.
    """
    label, index = np.repeat([True, False], 100), np.arange(200)
    records = [record(f"digits-cnn-{m}-s{s}") for m in ("noop", "apricot") for s in (0, 1)]
    for s in (0, 1):
        for method, right in (("finetune", 120), ("dl2", 150)):
            records.append(answered(record(f"digits-cnn-{method}-s{s}"), index, label, index < right))
    table = paired(grid(records))
    assert table is not None
    assert [r.labels for r in table.rows] == [
        ("digits CNN", "finetune", "the subject"),
        ("digits CNN", "DL2", "the subject"),
        ("digits CNN", "DL2", "finetune"),
    ]
    assert [e.text for e in table.rows[2].entries][:3] == ["30, 30", "0, 0", "+15.00"]
    assert render([table], "txt") == render([paired(grid(records))], "txt")  # type: ignore[list-item]
    assert "paired.md" in {p.name for p in write_all(records, tmp_path)}


def test_without_answers_there_is_no_document() -> None:
    """Records of benchmark version 1 hold none: no table and no error."""
    assert paired(grid([record("digits-cnn-dl2-s0")])) is None


def test_other_test_images_are_not_paired() -> None:
    """A control that was tested on other images is not compared."""
    label = np.ones(50, bool)
    own, other = (
        answered(record(f"digits-cnn-{m}-s0"), np.arange(50) + k, label, label)
        for m, k in (("dl2", 0), ("finetune", 7))
    )
    table = paired(grid([own, other]))
    assert table is not None
    assert ("digits CNN", "DL2", "finetune") not in [r.labels for r in table.rows]


def test_a_score_without_images_is_compared_by_seed_alone() -> None:
    """The mean of the differences and an interval over seeds; one seed decides nothing and has no
    interval.
    """
    found = by_seed([0.02, 0.03, 0.01, 0.02, 0.02, 0.03])
    assert found.difference == pytest.approx(0.13 / 6)
    assert found.low is not None
    assert found.high is not None
    assert 0.01 < found.low < found.difference < found.high < 0.03
    assert found.p == found.permutation == 2 / 2**6
    assert (by_seed([0.5]).p, by_seed([0.5]).low) == (1, None)


def test_how_many_seeds_it_takes_at_least() -> None:
    """2 / 2^n below .05: six seeds for one comparison, twelve for a family of sixty."""
    assert fewest_seeds() == 6
    assert fewest_seeds(60) == 12
