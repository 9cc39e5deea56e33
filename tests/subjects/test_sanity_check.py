"""Which scaling the line offers where a network is fed wrongly."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.subjects.user_model import sanity_check
from airepair.subjects.user_model.input_spec import InputSpec
from airepair.subjects.user_model.sanity_check import (
    KNOWN,
    OWN,
    Tried,
    best_of,
    by_chance,
    refuse_near_chance,
)
from airepair.types import Split


class Answers(nn.Module):
    """Answers with the label, which an image keeps in its first pixel, of that share of the images;
    of the rest with class 0.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """One-hot logits."""
        labels = (x[:, 0, 0, 0] * 255).round().long()
        labels[int(self.share * len(labels)) :] = 0
        return nn.functional.one_hot(labels, 10).float()


class Constant(nn.Module):
    """Answers with class 0."""

    def forward(self, x: Tensor) -> Tensor:
        """One-hot logits."""
        return nn.functional.one_hot(torch.zeros(len(x), dtype=torch.long), 10).float()


def data(channels: int, images: int = 1000, classes: int = 10) -> SimpleNamespace:
    """Images whose first pixel is their label."""
    y = torch.arange(images) % classes
    x = torch.zeros(images, channels, 4, 4, dtype=torch.uint8)
    x[:, 0, 0, 0] = y
    split = Split(x, y)
    names = tuple("0123456789"[:classes])
    return SimpleNamespace(name="some", classes=names, shape=(channels, 4, 4), train=split, validation=split)


@pytest.mark.parametrize(
    ("channels", "shares", "offered"),
    [
        (3, {"ImageNet's": 0.9, OWN: 0.905}, "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (
            3,
            {"CIFAR-10's": 0.9, "ImageNet's": 0.88, OWN: 0.91},
            "--mean 0.4914,0.4822,0.4465 --std 0.247,0.2435,0.2616",
        ),
        (1, {"MNIST's": 0.9, OWN: 0.9}, "--mean 0.1307 --std 0.3081"),
        (1, {"MNIST's": 0.7, OWN: 0.9}, "--mean 0.0011"),  # only the data set's own fit
    ],
)
def test_a_normalisation_that_people_know_is_offered_before_computed_numbers(
    channels: int, shares: dict[str, float], offered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both fit; the line names whose it is."""
    means = {KNOWN[k][0]: v for k, v in shares.items() if k in KNOWN}

    def refeed(feeding: InputSpec) -> nn.Module:
        if feeding.mean is None or feeding.colours == "bgr":
            return Answers(0.1)
        known = any(feeding.mean == m for m, _ in KNOWN.values())
        return Answers(means.get(feeding.mean, 0.1) if known else shares[OWN])

    unstated = InputSpec(input_range=(0.0, 1.0), origins={"input_range": "default"})
    monkeypatch.setattr(sanity_check, "sit", _sit)
    with pytest.raises(UsageError) as caught:
        refuse_near_chance("net.pt", Answers(0.1), refeed, unstated, data(channels))
    advice = str(caught.value).partition("; give ")[2]
    assert advice.startswith("--input-range 0..1 " + offered)


def _sit(module: nn.Module, split: Split):
    """The exam in one batch: which images are answered rightly is a matter of their place."""
    from airepair.evaluation.exam import sit

    return sit(module, split, batch_size=len(split))


def test_the_best_scaling_wins_whoever_s_it_is() -> None:
    """Plain ranges are no rivals of the data set's own numbers, and a well-known normalisation that
    fits less is none either.
    """
    plain, known, own = Tried("in 0..1", "", 0.90), Tried("m", "", 0.80, "MNIST's"), Tried("o", "", 0.91, OWN)
    assert best_of([plain, known, own], 1000) is own
    assert best_of([plain, known, Tried("o", "", 0.81, OWN)], 1000) is plain
    assert best_of([known, Tried("o", "", 0.81, OWN)], 1000) is known
    assert best_of([plain, own], 1000) is own


@pytest.mark.parametrize(
    ("right", "images", "classes", "chance"),
    [
        (50, 500, 10, True),
        (300, 500, 10, False),
        (9, 9, 2, True),  # 1 in 512
        (10, 10, 2, False),  # 1 in 1,024
        (0, 9, 2, True),
        (2, 2, 100, False),
        (71, 500, 10, True),  # 1 in 564
        (72, 500, 10, False),  # 1 in 874
    ],
)
def test_chance_is_what_a_guess_may_reach(right: int, images: int, classes: int, chance: bool) -> None:
    """With a probability of at least 1 in 740, whatever the number of images."""
    assert by_chance(right, images, classes) == chance


STATED = InputSpec(input_range=(0.0, 1.0), origins={"input_range": "option"})


@pytest.mark.parametrize("module", [Answers(1.0), Constant()])
def test_too_few_images_to_tell_a_module_from_chance_refuse_none(module: nn.Module) -> None:
    """A note says so: of nine images of two classes a guess may be right on all."""
    note = refuse_near_chance("net.pt", module, lambda _: Constant(), STATED, data(1, 9, 2))
    assert note.startswith("validation has 9 images of 2 classes: too few to tell an accuracy of ")


def test_ten_images_are_enough_to_tell() -> None:
    """A perfect module is above chance, one that knows nothing is refused."""
    assert refuse_near_chance("net.pt", Answers(1.0), lambda _: Constant(), STATED, data(1, 10, 2)) == ""
    with pytest.raises(UsageError, match=r"net\.pt is near chance on some: validation accuracy \.500"):
        refuse_near_chance("net.pt", Constant(), lambda _: Constant(), STATED, data(1, 10, 2))
