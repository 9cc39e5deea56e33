"""The four splits: disjoint, stratified, drawn by the seed and the same for every method, and
unseen where the protocol says so.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from airepair import data
from airepair.data.cifar import CIFAR100, SUPERCLASSES
from airepair.data.partition import divide_for, examination
from airepair.data.source import Source
from airepair.data.splits import SPLIT_SEED
from airepair.errors import Unavailable, UsageError
from airepair.faults.fault import FAULT_SEED
from airepair.types import Dataset, Robustness, Split, stream

PARTS = ("train", "repair", "validation", "test")


SEEN = ["split", "split of seed 7", "official train", "0..799"]  # of which the seed divides what is left over
VERSION_1_TRAIN = "37e5e61c4e6f93bc"  # in reports/digits at 5f42403


def numbered(n: int, start: int = 0) -> Split:
    """Images that carry their own index."""
    index = torch.arange(start, start + n)
    x = torch.stack([index // 256, index % 256], 1).to(torch.uint8).reshape(n, 1, 1, 2)
    return Split(x, (index * 7 + index // 10) % 5)


def toy(test: bool = True) -> Source:
    return Source(
        "toy",
        tuple("abcde"),
        ((0, 1), (2, 3, 4)),
        numbered(1000),
        numbered(200, 1000) if test else None,
        Robustness(1, 1, 1, "toy"),
    )


def indices(split: Split) -> set[int]:
    return {int(a) * 256 + int(b) for a, b in split.x.reshape(-1, 2)}


def disjoint(found: Dataset) -> bool:
    sets = [indices(getattr(found, name)) for name in PARTS]
    return len(set().union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize(
    "trained_on", [*SEEN, "unknown", "train 0..599, repair 800..999, validation 600..699"]
)
def test_no_image_is_in_two_splits(trained_on: str) -> None:
    """Whatever the subject has seen, the four splits share no image, and each image's index leads
    back to it.
    """
    for seed in (0, 3):
        found = divide_for(toy(), trained_on, seed)
        assert disjoint(found)
        for part in PARTS:
            split = getattr(found, part)
            assert split.index is not None
            assert [int(a) * 256 + int(b) for a, b in split.x.reshape(-1, 2)] == split.index.tolist()


def test_splits_are_stratified_and_the_same_for_a_seed() -> None:
    """80 / 10 / 10 of the training set, each class in its proportion, the same digests at every call."""
    found = divide_for(toy(), "split", 0)
    assert [len(getattr(found, p)) for p in PARTS] == [800, 100, 100, 200]
    for part in PARTS[:3]:
        counts = torch.bincount(getattr(found, part).y).float()
        assert (counts - counts.mean()).abs().max() <= 1
    assert divide_for(toy(), "split", 0).digests == found.digests


@pytest.mark.parametrize("trained_on", SEEN)
def test_the_seed_divides_what_the_subject_has_not_seen(trained_on: str) -> None:
    """Another seed, other repair and validation images; what the subject was trained on stays (for
    ours, its own seed's), official test too.
    """
    first, second = (divide_for(toy(), trained_on, seed) for seed in (0, 1))
    assert indices(first.repair) != indices(second.repair)
    assert indices(first.validation) != indices(second.validation)
    assert (indices(first.train) == indices(second.train)) == (trained_on != "split")
    assert (indices(first.test) == indices(second.test)) == (trained_on != "official train")
    assert (first.seed, second.seed) == (0, 1)


def test_a_pool_is_divided_by_the_seed_test_too() -> None:
    """Without an official test set, test is drawn as well, and a claim holds over splits of these images."""
    first, second = (divide_for(toy(test=False), "split", seed) for seed in (0, 1))
    assert indices(first.test) != indices(second.test)
    assert indices(first.test) & indices(second.test)
    assert first.scope == "splits of these 1,000 images"
    assert (
        divide_for(toy(), "split", 0).scope
        == "splits of the 1,000 official training images, on the one official test set"
    )


@pytest.mark.parametrize("test", [True, False])
def test_a_network_of_our_split_is_repaired_on_what_that_split_left_over(test: bool) -> None:
    """`split of seed 3`, at any cell seed: train is seed 3's, the rest is divided anew; at seed 3
    it is seed 3's own division.
    """
    own = divide_for(toy(test), "split", 3)
    other = divide_for(toy(test), "split of seed 3", 0)
    assert indices(other.train) == indices(own.train)
    assert indices(other.repair) != indices(own.repair)
    assert [len(getattr(other, p)) for p in PARTS] == [len(getattr(own, p)) for p in PARTS]
    assert disjoint(other)
    assert divide_for(toy(test), "split of seed 3", 3).digests == own.digests


def test_a_file_of_version_1_has_seen_the_one_split_of_that_version() -> None:
    """The first version's train split of digits, by the digest that its records hold; its repair
    split is unseen and divided anew.
    """
    found = data.load("digits", trained_on="split of version 1")
    assert found.digests["train"][:16] == VERSION_1_TRAIN
    assert (
        data.load("digits", seed=1, trained_on="split of version 1").digests["train"][:16] == VERSION_1_TRAIN
    )


def test_splits_and_faults_draw_from_different_streams() -> None:
    """No seed of a split's generator is one of a fault's, at any of a hundred seeds and parts."""
    splits = {stream(SPLIT_SEED, seed, part) for seed in range(100) for part in range(6)}
    faults = {stream(FAULT_SEED, seed, part) for seed in range(100) for part in range(6)}
    assert len(splits) == len(faults) == 600
    assert not splits & faults


def test_digits_have_the_protocols_sizes_and_digests() -> None:
    """600 / 400 / 300 / 497 images; a digest pins the benchmark version, so that no change goes unseen."""
    found = data.load("digits", seed=0)
    assert [len(getattr(found, p)) for p in PARTS] == [600, 400, 300, 497]
    assert found.train.x.dtype == torch.float32
    assert 0 <= float(found.train.x.min()) < float(found.train.x.max()) == 1
    assert found.digests["test"][:16] == "c35999c768ae28c0"


def test_repair_and_validation_are_unseen_by_a_brought_model() -> None:
    """official train: repair and validation come out of the test set, and test is the other half."""
    found = divide_for(toy(), "official train", 0)
    assert len(found.train) == 1000
    assert [len(getattr(found, p)) for p in PARTS[1:]] == [50, 50, 100]
    assert not (indices(found.repair) | indices(found.validation)) & indices(found.train)


def test_ranges_of_the_files_text_are_taken_as_they_stand() -> None:
    """The seed divides the rest between repair and validation; stated ranges are taken at every seed."""
    found = divide_for(toy(), "training images 0..799", 0)
    assert indices(found.train) == set(range(800))
    assert (len(found.repair), len(found.validation)) == (100, 100)
    assert indices(found.repair) | indices(found.validation) == set(range(800, 1000))
    text = "train 0..599, repair 800..999, validation 600..699"
    assert divide_for(toy(), text, 0).digests == divide_for(toy(), text, 1).digests
    assert divide_for(toy(), text, 0).scope == "the stated ranges, on the one official test set"


def test_a_pool_without_test_set_says_that_failures_were_seen() -> None:
    """Nothing unseen at hand: the note reaches every record."""
    assert divide_for(toy(test=False), "unknown", 0).notes == ("failures seen in training",)
    assert divide_for(toy(test=False), "0..999", 0).notes == ("failures seen in training",)
    assert divide_for(toy(), "0..799", 0).notes == ()


@pytest.mark.parametrize("trained_on", ["official train", "unknown", "0..999"])
def test_what_a_repair_takes_of_the_test_set_is_said(trained_on: str) -> None:
    """A range of the whole training set is as true as the words."""
    found = divide_for(toy(), trained_on, 0)
    assert found.notes == (
        "100 of the 200 official test images are repair and validation: "
        "the network has seen the training images",
    )
    assert found.digests == divide_for(toy(), "official train", 0).digests


def test_a_range_of_a_pool_leaves_the_rest_in_the_usual_proportions() -> None:
    """Repair, validation and test as 15, 10 and 15 of 40; too small a rest is refused."""
    found = divide_for(toy(test=False), "0..599", 0)
    assert [len(getattr(found, p)) for p in PARTS] == [600, 150, 100, 150]
    assert disjoint(found)
    assert found.scope == "splits of the 400 images that it was not trained on"
    with pytest.raises(
        UsageError,
        match=r"'0\.\.995' leaves 4 images: repair, validation or test would lack some of 5 classes",
    ):
        divide_for(toy(test=False), "0..995", 0)
    with pytest.raises(
        UsageError, match=r"toy has no test set of its own.*accepted: the training range alone"
    ):
        divide_for(toy(test=False), "train 0..599, repair 600..699, validation 700..799", 0)


@pytest.mark.parametrize("trained_on", ["official train", "0..999", "0..799", "0..995", "split of seed 3"])
def test_an_examination_is_on_all_test_images(trained_on: str) -> None:
    """Whatever the network has seen, also where that leaves too little for a repair; validation is
    unseen, and a note says where it overlaps.
    """
    found = examination(toy(), trained_on, 0)
    assert indices(found.test) == set(range(1000, 1200))
    assert not indices(found.validation) & indices(found.train)
    overlap = bool(indices(found.validation) & indices(found.test))
    assert overlap == (trained_on not in ("0..799", "split of seed 3"))
    assert (
        any("all 200 test images are examined; 50 of them are validation as well" in n for n in found.notes)
        == overlap
    )


def test_an_examination_refuses_a_text_that_says_nothing() -> None:
    """As a repair does."""
    with pytest.raises(UsageError, match="not understood at 'everything'"):
        examination(toy(), "everything", 0)
    assert (
        examination(toy(test=False), "0..599", 0).digests == divide_for(toy(test=False), "0..599", 0).digests
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("everything", "not understood at 'everything'"),
        ("0..1000", r"accepted: within 0\.\.999"),
        ("repair 0..10", "does not say what the training set was"),
        ("train 0..10, repair 5..20", "overlap"),
        ("split of seed", "not understood"),
        ("0..995", "would hold no image of . of 5 classes"),
    ],
)
def test_a_wrong_text_is_one_line(text: str, message: str) -> None:
    """The text and what would be accepted."""
    with pytest.raises(UsageError, match=message):
        divide_for(toy(), text, 0)


def test_names_load_without_torch() -> None:
    """The page of data sets and the page of models are free of torch, so that selection is fast."""
    code = (
        "import sys, airepair.data, airepair.models, airepair.data.catalogue; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(data.__file__).parents[2]).returncode == 0


def test_an_unknown_name_lists_the_known_ones() -> None:
    """With the nearest one."""
    with pytest.raises(UsageError, match=r"did you mean 'cifar100'.*accepted: digits, mnist"):
        data.load("cifar1000")


def test_superclasses_divide_the_hundred_classes() -> None:
    """Twenty groups of five, every class once; spot checks against the published table."""
    assert len(CIFAR100) == len(set(CIFAR100)) == 100
    assert sorted(k for group in SUPERCLASSES.values() for k in group) == list(range(100))
    assert {CIFAR100[k] for k in SUPERCLASSES["people"]} == {"baby", "boy", "girl", "man", "woman"}
    assert {CIFAR100[k] for k in SUPERCLASSES["trees"]} == {
        "maple_tree",
        "oak_tree",
        "palm_tree",
        "pine_tree",
        "willow_tree",
    }
    assert {CIFAR100[k] for k in SUPERCLASSES["vehicles 2"]} == {
        "lawn_mower",
        "rocket",
        "streetcar",
        "tank",
        "tractor",
    }


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist", (1, 28, 28)),
        ("fashion_mnist", (1, 28, 28)),
        ("cifar10", (3, 32, 32)),
        ("cifar100", (3, 32, 32)),
    ],
)
def test_a_real_set_is_whole(name: str, shape: tuple[int, int, int]) -> None:
    """Sizes, shape, classes, groups that divide the classes, bytes on the device."""
    if not os.environ.get("AIREPAIR_DATA"):
        pytest.skip("set AIREPAIR_DATA to the folder of the data sets (airepair data get)")
    try:
        found = data.load(name)
    except Unavailable as error:
        pytest.skip(str(error))
    assert found.shape == shape
    assert sum(len(getattr(found, p)) for p in PARTS) == (60_000 if "cifar" in name else 70_000)
    assert sorted(k for g in found.groups for k in g) == list(range(len(found.classes)))
    assert found.train.x.dtype == torch.uint8
    for part in PARTS[:3]:
        assert set(getattr(found, part).y.tolist()) == set(range(len(found.classes)))
    if name == "cifar10":
        assert all("97 of 60,000" in note for note in found.notes)


def test_test_images_that_leave_a_split_empty_are_refused() -> None:
    """Three of them are no repair, validation and test; also where nothing is repaired."""
    few = dataclasses.replace(toy(), test=numbered(3, 1000))
    for ask in (divide_for, examination):
        with pytest.raises(UsageError, match=r"toy has 3 official test images.*accepted: 4 or more"):
            ask(few, "official train", 0)
    four = divide_for(dataclasses.replace(toy(), test=numbered(4, 1000)), "official train", 0)
    assert [len(part) for part in (four.repair, four.validation, four.test)] == [1, 1, 2]
