"""What tuned settings cost in other metrics."""

from airepair.report.cells import grid
from airepair.report.tuned_costs import tuned_costs
from tests.report_records import record


def test_a_tuned_setting_is_named_with_what_it_loses() -> None:
    """The largest loss first, each metric in its own direction, over the seeds that both have."""
    plain = [record(f"digits-fc-finetune-s{s}", gains={"accuracy": 0.07}) for s in (0, 1, 2)]
    gains = {
        "accuracy": 0.13,
        "constraint": -0.49,
        "break_rate": 0.06,
        "close_pairs": 0.5,
        "confusion": 0.2,
        "generalisation": -0.002,
    }
    tuned = [record(f"digits-fc-finetune[tuned]-s{s}", gains=gains) for s in (0, 1)]
    expected = (
        "finetune[tuned] beside finetune on digits-fc (n = 2): accuracy +6.00 points; what that costs: "
    )
    assert list(tuned_costs(grid([*plain, *tuned]))) == [
        expected + "constraint accuracy (groups) -49.00, break rate +6.00"
    ]


def test_a_tuned_setting_that_costs_nothing_says_so() -> None:
    """Without its default beside it, or if one of them failed, nothing is said."""
    both = [record("digits-fc-dl2-s0"), record("digits-fc-dl2[tuned]-s0", gains={"accuracy": 0.01})]
    (line,) = tuned_costs(grid(both))
    assert line.endswith("(n = 1): accuracy +1.00 points; no other metric is worse by 0.5 points")
    assert list(tuned_costs(grid(both[1:]))) == []
    assert list(tuned_costs(grid([record("digits-fc-dl2-s0", "failed"), both[1]]))) == []
