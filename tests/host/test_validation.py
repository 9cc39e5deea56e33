"""What comes from outside is checked at the door: one sentence with file, field, value and what
would be accepted.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from airepair.cli.repair.config import KEPT, apply
from airepair.cli.tuning.table import read_rows
from airepair.errors import UsageError
from airepair.host.validation import Count, Finite, Share, accepted, checked
from airepair.metrics import METRICS
from airepair.settings import choose_options, profiles, read_table


@dataclass(frozen=True)
class Part:
    """A part of the example."""

    share: Share
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    """The example: every kind of type that the project's doors have."""

    kind: Literal["a", "b"]
    count: Count = 0
    number: Finite | None = None
    parts: tuple[Part, ...] = ()
    table: dict[str, Share] = field(default_factory=dict)
    pair: tuple[int, int] | None = None
    either: int | list[str] | None = None


def test_what_fits_is_converted() -> None:
    """Lists become tuples, whole numbers floats where floats are wanted, tables the dataclass of
    their field.
    """
    found = checked(
        {"kind": "a", "number": 1, "parts": [{"share": 1, "words": ["x"]}], "pair": [1, 2], "either": ["x"]},
        Whole,
        "here",
    )
    assert found == Whole("a", 0, 1.0, (Part(1.0, ("x",)),), {}, (1, 2), ["x"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "kind is missing; accepted: one of a, b"),
        ({"kind": "c"}, "kind is 'c'; accepted: one of a, b"),
        (
            {"kind": "a", "conut": 1},
            "conut is not a known field (did you mean 'count'?), its value is 1; accepted: kind, count, "
            "number",
        ),
        ({"kind": "a", "count": -1}, "count is -1; accepted: a whole number of at least 0"),
        ({"kind": "a", "count": True}, "count is True; accepted: a whole number of at least 0"),
        ({"kind": "a", "number": float("nan")}, "number is nan; accepted: a number that is finite"),
        ({"kind": "a", "number": "1"}, "number is '1'; accepted: a number that is finite"),
        (
            {"kind": "a", "parts": [{"share": 0.5}, {"share": 2}]},
            "parts[1].share is 2; accepted: a number from 0 to 1",
        ),
        (
            {"kind": "a", "parts": [{"share": 0, "words": ["x", 3]}]},
            "parts[0].words[1] is 3; accepted: text in quotes",
        ),
        (
            {"kind": "a", "parts": {"share": 0}},
            "parts is {'share': 0}; accepted: a list of a table (an object)",
        ),
        ({"kind": "a", "table": {"odd key": 3}}, "table.'odd key' is 3; accepted: a number from 0 to 1"),
        ({"kind": "a", "pair": [1]}, "pair is [1]; accepted: a list of 2: a whole number, a whole number"),
        ({"kind": "a", "either": [1]}, "either[0] is 1; accepted: text in quotes"),
        ({"kind": "a", "either": 1.5}, "either is 1.5; accepted: a whole number or a list of text in quotes"),
        ({"kind": "a", "number": "x" * 500}, "number is '" + "x" * 56 + "...; accepted"),
        ([], "it is []; accepted: a table (an object)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(value: Any, said: str) -> None:
    """Where, the field with its path, its value, what would be accepted."""
    with pytest.raises(UsageError) as error:
        checked(value, Whole, "records.jsonl:3")
    assert str(error.value).startswith(f"records.jsonl:3: {said}")


def test_a_range_is_described_with_the_end_that_it_has() -> None:
    """Above and at least are different words."""
    assert accepted(Annotated[float, msgspec.Meta(gt=0)]) == "a number above 0"
    assert accepted(Annotated[int, msgspec.Meta(ge=3)]) == "a whole number of at least 3"
    assert accepted(Annotated[int, msgspec.Meta(ge=1, le=5)]) == "a whole number from 1 to 5"
    assert (
        accepted(Annotated[list[str], msgspec.Meta(min_length=1)])
        == "a list of text in quotes that is not empty"
    )


def test_every_metric_declares_a_range() -> None:
    """Of its unit, if it says nothing; recovery goes beyond its clean twin."""
    assert METRICS["accuracy"].range == (0.0, 1.0)
    assert METRICS["net_change"].range == (-1.0, 1.0)
    assert METRICS["recovery"].range[0] < -1e9
    assert all(low < high for low, high in (entry.range for entry in METRICS.values()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[setting]]\noptions = {}",
            "setting[0].origin is missing; accepted: text in quotes that is not empty",
        ),
        ('[[setting]]\norigin = "me"\noptions = 3', "setting[0].options is 3; accepted: a table"),
        (
            '[[setting]]\norigin = "me"\noptions = {}\nmetod = "dl2"',
            "metod is not a known field (did you mean 'method'?)",
        ),
        ("[setting]", "setting is {}; accepted: a list of a table"),
        ("setting = [", "cannot be read"),
    ],
)
def test_a_table_of_settings_is_checked(tmp_path: Path, text: str, said: str) -> None:
    """tuned.toml may come from anywhere; its reader and the chooser of options refuse it alike."""
    file = tmp_path / "tuned.toml"
    file.write_text(text)
    for door in (
        read_table,
        read_rows,
        lambda path: choose_options("digits", "cnn", "dl2", "smoke", {}, (path,)),
    ):
        with pytest.raises(UsageError) as error:
            door(file)
        assert str(error.value).startswith(str(file))
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_the_packages_own_profiles_are_what_they_were() -> None:
    """Numbers are whole where they count images."""
    assert profiles()["cpu"].images["mnist"]["train"] == 10000
    assert profiles()["smoke"].seeds == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth = true", "depth is True; accepted: a whole number"),
        ('method = "dl2"', "method is 'dl2'; accepted: a list of text in quotes"),
        ("method = [1]", "method[0] is 1; accepted: text in quotes"),
        ("pgd = 1", "pgd is 1; accepted: true or false"),
        ("time_limit = nan", "time_limit is nan; accepted: a number that is finite"),
        ("[options]\ndl2 = 3", "options.dl2 is 3; accepted: a table"),
        ("[origins.dl2]\nlr = 3", "origins.dl2.lr is 3; accepted: text in quotes"),
        ('datset = "digits"', "datset is not a known field (did you mean 'dataset'?)"),
    ],
)
def test_a_configuration_is_checked(tmp_path: Path, text: str, said: str) -> None:
    """`--config` names the file, the field and the value."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        apply(argparse.Namespace(**dict.fromkeys(KEPT)), file)
    assert str(error.value).startswith(f"{file}: {said}")
