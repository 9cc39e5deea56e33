"""Cases: names that are test ids and record keys."""

import re

import pytest
from _pytest.mark.expression import Expression

from airepair.case import Case, label, with_variant
from airepair.errors import UsageError


def test_a_case_is_its_id_and_comes_back_from_it() -> None:
    """The id names data set, model, method and seed in this order, and parses back."""
    case = Case("cifar10", "resnet18", "apricot", 0)
    assert str(case) == "cifar10-resnet18-apricot-s0"
    assert Case.parse("digits-cnn+imbalanced-dl2[lr:0.01]-s12") == Case(
        "digits", "cnn+imbalanced", "dl2[lr:0.01]", 12
    )


@pytest.mark.parametrize(
    ("method", "base", "variant"),
    [
        ("apricot", "apricot", ""),
        ("apricot[random_sets]", "apricot", "random_sets"),
        ("apricot+dl2[dl2_lr:0.1+dl2_epochs:3]", "apricot+dl2", "dl2_lr:0.1+dl2_epochs:3"),
        ("mine.repairs:Mine[tuned]", "mine.repairs:Mine", "tuned"),
        ("dl2@lr=0.01", "dl2", "lr=0.01"),  # as records of version 1 have it
    ],
)
def test_a_variant_stands_in_brackets_behind_the_method(method: str, base: str, variant: str) -> None:
    """The method's own name and its variant come apart, also in a record of version 1, whose sign
    was an @.
    """
    case = Case.parse(f"digits-cnn-{method}-s1")
    assert (case.method, case.base_method, case.variant) == (method, base, variant)


@pytest.mark.parametrize(
    "method", ["apricot[", "apricot[]", "[tuned]", "apricot[a][b]", "apricot[a]b", "apricot]"]
)
def test_brackets_that_hold_no_variant_are_refused(method: str) -> None:
    """The error shows the method and what would be accepted."""
    with pytest.raises(
        UsageError, match=re.escape(f"{method!r} is not a method; accepted: METHOD or METHOD[VARIANT]")
    ):
        Case("digits", "cnn", method, 0)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("0.2", "x:0.2"),
        ("-1e-3", "x:m1em3"),
        ("RobustnessT(eps1=7.8, eps2=2.9)", "x:RobustnessT_eps1_7.8_eps2_2.9"),
        ("a/b", "x:a_b"),
    ],
)
def test_a_swept_value_is_named_by_what_pytest_selects_by(value: str, name: str) -> None:
    """Letters, digits, dots, colons and plus signs remain; a slash would be a folder of the cell's files."""
    assert label("x", value) == name
    Expression.compile(with_variant("dl2", name))


@pytest.mark.parametrize(
    "text", ["digits-cnn-noop", "digits-cnn-noop-0", "a-b-c-d-s0", "", "digits--noop-s0"]
)
def test_what_is_no_id_is_refused_with_an_example(text: str) -> None:
    """The error shows the value and what would be accepted."""
    with pytest.raises(UsageError, match="DATASET-MODEL-METHOD-sSEED"):
        Case.parse(text)


@pytest.mark.parametrize("part", ["res-net", "", "a b", "modèle"])
def test_a_part_that_would_break_the_id_is_refused(part: str) -> None:
    """Hyphens, spaces, non-ASCII letters and empty parts never enter a key."""
    with pytest.raises(UsageError, match="part of a case"):
        Case("digits", part, "noop", 0)
