"""The four splits: disjoint, stratified, the same for everybody, and unseen where the protocol says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from airepair import data
from airepair.data.cifar import CIFAR100, SUPERCLASSES
from airepair.data.seen import divide_for
from airepair.data.source import Source
from airepair.errors import Unavailable, UsageError
from airepair.types import Dataset, Robustness, Split

PARTS = ("train", "repair", "validation", "test")


def numbered(n: int, start: int = 0) -> Split:
    """Images that carry their own index."""
    index = torch.arange(start, start + n)
    x = torch.stack([index // 256, index % 256], 1).to(torch.uint8).reshape(n, 1, 1, 2)
    return Split(x, (index * 7 + index // 10) % 5)


def toy(test: bool = True) -> Source:
    return Source(
        "toy", tuple("abcde"), ((0, 1), (2, 3, 4)), numbered(1000), numbered(200, 1000) if test else None, Robustness(1, 1, 1, "toy")
    )


def indices(split: Split) -> set[int]:
    return {int(a) * 256 + int(b) for a, b in split.x.reshape(-1, 2)}


def disjoint(found: Dataset) -> bool:
    sets = [indices(getattr(found, name)) for name in PARTS]
    return len(set().union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize(
    "trained_on", ["split", "official train", "unknown", "0..799", "train 0..599, repair 800..999, validation 600..699"]
)
def test_no_image_is_in_two_splits(trained_on: str) -> None:
    """Whatever the subject has seen, the four splits share no image."""
    assert disjoint(divide_for(toy(), trained_on))


def test_splits_are_stratified_and_do_not_change() -> None:
    """80 / 10 / 10 of the training set, each class in its proportion, the same digests at every call."""
    found = divide_for(toy(), "split")
    assert [len(getattr(found, p)) for p in PARTS] == [800, 100, 100, 200]
    for part in PARTS[:3]:
        counts = torch.bincount(getattr(found, part).y).float()
        assert (counts - counts.mean()).abs().max() <= 1
    assert divide_for(toy(), "split").digests == found.digests


def test_digits_have_the_protocols_sizes_and_digests() -> None:
    """600 / 400 / 300 / 497 images; a digest pins the split version, so that no change goes unseen."""
    found = data.load("digits")
    assert [len(getattr(found, p)) for p in PARTS] == [600, 400, 300, 497]
    assert found.train.x.dtype == torch.float32
    assert 0 <= float(found.train.x.min()) < float(found.train.x.max()) == 1
    assert found.digests["test"][:16] == "712de24b21afa10d"


def test_repair_and_validation_are_unseen_by_a_brought_model() -> None:
    """official train: repair and validation come out of the test set, and test is the other half."""
    found = divide_for(toy(), "official train")
    assert len(found.train) == 1000
    assert [len(getattr(found, p)) for p in PARTS[1:]] == [50, 50, 100]
    assert not (indices(found.repair) | indices(found.validation)) & indices(found.train)


def test_ranges_of_the_files_text_are_taken_as_they_stand() -> None:
    """The rest of the official order goes to repair, then to validation."""
    found = divide_for(toy(), "training images 0..799")
    assert indices(found.train) == set(range(800))
    assert indices(found.repair) == set(range(800, 900))
    assert indices(found.validation) == set(range(900, 1000))


def test_a_pool_without_test_set_says_that_failures_were_seen() -> None:
    """Nothing unseen at hand: the note reaches every record."""
    assert divide_for(toy(test=False), "unknown").notes == ("failures seen in training",)
    assert divide_for(toy(), "unknown").notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("everything", "not understood at 'everything'"),
        ("0..1000", r"accepted: within 0\.\.999"),
        ("repair 0..10", "does not say what the training set was"),
        ("train 0..10, repair 5..20", "overlap"),
        ("0..999", "would hold no image of 5 of 5 classes"),
    ],
)
def test_a_wrong_text_is_one_line(text: str, message: str) -> None:
    """The text and what would be accepted."""
    with pytest.raises(UsageError, match=message):
        divide_for(toy(), text)


def test_names_load_without_torch() -> None:
    """The page of data sets and the page of models are free of torch, so that selection is fast."""
    code = "import sys, airepair.data, airepair.models, airepair.data.official; sys.exit('torch' in sys.modules)"
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
    assert {CIFAR100[k] for k in SUPERCLASSES["trees"]} == {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"}
    assert {CIFAR100[k] for k in SUPERCLASSES["vehicles 2"]} == {"lawn_mower", "rocket", "streetcar", "tank", "tractor"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape"), [("mnist", (1, 28, 28)), ("fashion_mnist", (1, 28, 28)), ("cifar10", (3, 32, 32)), ("cifar100", (3, 32, 32))]
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
