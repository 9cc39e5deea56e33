"""The limits of a linear program."""

from __future__ import annotations

import pytest
import scipy.optimize

from airepair.linear.highs import Limits, Norm
from airepair.linear.program import solve
from tests.linear.test_linear import by_hand


def test_a_program_gets_two_minutes_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS hears the seconds that are left: nearly all of them in its first call."""
    heard: list[float] = []
    linprog = scipy.optimize.linprog

    def spy(*args: object, **kwargs: object) -> object:
        heard.append(kwargs["options"]["time_limit"])  # type: ignore[index]
        return linprog(*args, **kwargs)

    monkeypatch.setattr(scipy.optimize, "linprog", spy)
    for limits, seconds in ((Limits(), 120.0), (Limits(seconds=900.0), 900.0)):
        heard.clear()
        assert solve(by_hand([[1.0]], [2.0]), Norm("l1"), limits).status == "optimal"
        assert seconds - 10 < heard[0] <= seconds
