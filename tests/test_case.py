"""Cases: names that are test ids and record keys."""

import pytest

from airepair.case import Case
from airepair.errors import UsageError


def test_a_case_is_its_id_and_comes_back_from_it() -> None:
    """The id names data set, model, method and seed in this order, and parses back."""
    case = Case("cifar10", "resnet18", "apricot", 0)
    assert str(case) == "cifar10-resnet18-apricot-s0"
    assert Case.parse("digits-cnn+imbalanced-dl2@lr=0.01-s12") == Case("digits", "cnn+imbalanced", "dl2@lr=0.01", 12)
    assert Case.parse("digits-cnn-dl2@lr=0.01-s1").base_method == "dl2"


@pytest.mark.parametrize("text", ["digits-cnn-noop", "digits-cnn-noop-0", "a-b-c-d-s0", "", "digits--noop-s0"])
def test_what_is_no_id_is_refused_with_an_example(text: str) -> None:
    """The error shows the value and what would be accepted."""
    with pytest.raises(UsageError, match="DATASET-MODEL-METHOD-sSEED"):
        Case.parse(text)


@pytest.mark.parametrize("part", ["res-net", "", "a b", "modèle"])
def test_a_part_that_would_break_the_id_is_refused(part: str) -> None:
    """Hyphens, spaces, non-ASCII letters and empty parts never enter a key."""
    with pytest.raises(UsageError, match="part of a case"):
        Case("digits", part, "noop", 0)
