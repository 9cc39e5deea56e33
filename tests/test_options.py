"""Options of a method: parsed from text, checked, never evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airepair.errors import UsageError
from airepair.options import configure, describe, option, split_assignment


@dataclass(frozen=True)
class Sample:
    """One option of each type."""

    name: ClassVar[str] = "sample"

    count: int = option(3, "a number", low=1, high=10)
    rate: float = option(0.5, "a rate", low=0.0, high=1.0)
    mode: Literal["fast", "slow"] = option("fast", "a mode")
    limit: float | None = option(None, "a limit", low=0.0)
    layers: tuple[int, ...] = option((), "some layers", low=0)
    label: str = option("x", "a label")
    flag: bool = option(False, "a flag")


def test_text_becomes_the_type_of_its_field():
    """Every type has a text form."""
    given = {
        "count": "7",
        "rate": "1e-2",
        "mode": "slow",
        "limit": "2",
        "layers": "1, 2",
        "label": "a=b",
        "flag": "yes",
    }
    assert configure(Sample, given) == Sample(7, 0.01, "slow", 2.0, (1, 2), "a=b", True)
    assert configure(Sample, {"limit": "none"}).limit is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", "0", r"sample.count=0 is out of range; accepted: 1..10"),
        ("count", "2.5", r"sample.count='2.5' is not of the accepted type: int"),
        ("count", "", r"accepted type: int"),
        ("rate", "nan", r"out of range"),
        ("rate", "inf", r"out of range"),
        (
            "mode",
            "fats",
            r"unknown value of sample.mode 'fats' \(did you mean 'fast'\?\); accepted: fast, slow",
        ),
        ("limit", "-1", r"out of range; accepted: 0.0..inf"),
        ("layers", "1,-2", r"sample.layers=-2 is out of range"),
        ("flag", "maybe", r"accepted type: bool"),
        ("cuont", "1", r"unknown option of sample 'cuont' \(did you mean 'count'\?\)"),
    ],
)
def test_a_bad_value_is_refused_with_what_would_be_accepted(name: str, value: str, said: str):
    """One line that shows the value."""
    with pytest.raises(UsageError, match=said):
        configure(Sample, {name: value})


@given(st.text(max_size=40))
def test_no_text_is_ever_evaluated_or_crashes(text: str):
    """Whatever is given, the answer is a value of the right type or a UsageError."""
    for name in ("count", "rate", "mode", "limit", "layers", "flag"):
        try:
            value = getattr(configure(Sample, {name: text}), name)
        except UsageError:
            continue
        assert value is None or isinstance(value, (int, float, str, tuple))


def test_the_description_names_type_default_and_range():
    """What `airepair list methods` shows."""
    shown = {o.name: o for o in describe(Sample)}
    assert shown["mode"].type == "one of fast|slow"
    assert shown["limit"].type == "float or none"
    assert shown["layers"].type == "int,..."
    assert (shown["count"].default, shown["count"].low, shown["count"].high) == (3, 1, 10)


def test_an_assignment_has_three_parts():
    """The method's name ends at the first dot, the option's at the first equals sign; a combination
    is a method too.
    """
    assert split_assignment("apricot+dl2.dl2_lr=0.1") == ("apricot+dl2", "dl2_lr", "0.1")
    assert split_assignment("dl2.constraint=a=b") == ("dl2", "constraint", "a=b")
    for bad in ("dl2", "dl2.lr", "lr=1", ".lr=1"):
        with pytest.raises(UsageError, match=r"accepted: METHOD\.OPTION=VALUE"):
            split_assignment(bad)
