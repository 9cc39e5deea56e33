"""The measurements of speed: what a ratio is, and that every one of them runs (their values belong
to a quiet machine, not to a test).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.perf import __main__ as perf
from benchmarks.perf import timing, training
from benchmarks.perf.subjects import DIGITS_CNN, DIGITS_FC, Net
from benchmarks.perf.table import markdown
from benchmarks.perf.timing import Measure, compared

CPU = torch.device("cpu")


def test_arms_run_in_turn_and_a_ratio_is_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that the arms move themselves: the slow arm takes four times the fast one's time,
    in each pair.
    """
    now, order = [0.0], []

    def arm(name: str, takes: float) -> None:
        order.append(name)
        now[0] += takes

    monkeypatch.setattr(timing, "clock", lambda _: lambda: now[0])
    ratios, seconds = compared(lambda: arm("slow", 4.0), lambda: arm("fast", 1.0), 3, CPU)
    assert ratios == pytest.approx([4.0] * 3)
    assert seconds == pytest.approx([1.0] * 3)
    assert order[4:] == ["slow", "fast", "fast", "slow", "slow", "fast"]


def test_a_short_arm_is_repeated_and_its_time_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of SHORT: called a hundred times a pair."""
    now, calls = [0.0], []
    monkeypatch.setattr(timing, "clock", lambda _: lambda: now[0])

    def fast() -> None:
        calls.append(1)
        now[0] += timing.SHORT / 100

    ratios, _ = compared(lambda: now.__setitem__(0, now[0] + timing.SHORT), fast, 1, CPU)
    assert ratios == pytest.approx([100.0])
    assert len(calls) == 2 + 100


def test_floors_and_ceilings() -> None:
    """The median decides; most turns the comparison round; without one nothing is reached or missed."""

    def made(wanted: float | None, most: bool) -> Measure:
        return Measure("g", "n", "a", "b", (1.0, 3.0, 9.0), (1.0,), 1, wanted=wanted, most=most)

    assert [
        made(w, m).reached for w, m in ((3.0, False), (3.1, False), (3.0, True), (2.9, True), (None, True))
    ] == [
        True,
        False,
        True,
        False,
        None,
    ]


def test_every_measurement_runs_and_is_filed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a fiftieth of the size: both arms find the same, the numbers and the page are written with
    what they rest on.
    """
    threads = torch.get_num_threads()
    content = perf.main(
        [
            "--device",
            "cpu",
            "--repeats",
            "1",
            "--share",
            "0.02",
            "--out",
            str(tmp_path),
            "--only",
            "oracle,population,evaluation",
        ]
    )
    assert torch.get_num_threads() == 1 == content["provenance"]["threads"]
    torch.set_num_threads(threads)
    assert json.loads((tmp_path / "cpu.json").read_text()) == json.loads(json.dumps(content))
    assert {m["group"] for m in content["measures"]} == {"oracle", "population", "evaluation"}
    assert all(m["largest_difference"] < 1e-4 for m in content["measures"] if "largest_difference" in m)
    assert all(
        m["moved"] > 0.5 for m in content["measures"] if m["group"] == "oracle"
    )  # equal for having searched, not for standing still
    assert all(0 < m["min"] <= m["median"] <= m["max"] for m in content["measures"])
    page = (tmp_path / "cpu.md").read_text()
    assert page == markdown(content)
    assert all(m["name"] in page for m in content["measures"])
    assert content["provenance"]["versions"]["torch"] in page
    assert len(capsys.readouterr().out.splitlines()) == len(content["measures"]) + 1


def test_the_arms_of_a_training_measurement_do_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both send as many images through forward and backward; submodels as well."""
    counts: list[int] = []
    original = Net.module

    def counted(net: Net, device: torch.device) -> torch.nn.Module:
        module = original(net, device)
        counts.append(0)
        at = len(counts) - 1
        module.register_forward_pre_hook(lambda _, args: counts.__setitem__(at, counts[at] + len(args[0])))
        return module

    monkeypatch.setattr(Net, "module", counted)
    monkeypatch.setattr(training, "compared", lambda slow, fast, *_: (slow(), fast(), ([1.0], [1.0]))[2])
    for net in (DIGITS_FC, DIGITS_CNN):
        counts.clear()
        measure = training.measure(net, 2 * net.batch, CPU, 1)
        assert counts == [2 * net.batch, 2 * net.batch]
        assert measure.amount == 2 * net.batch


def test_the_share_of_the_peak_counts_three_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a card whose peak is known: the fully connected digits net has 2 (64 x 64 + 64 x 32 + 32 x
    10) operations an image.
    """
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    found = training.share_of_peak(DIGITS_FC, 1e9, torch.device("cuda"))
    assert found["share_of_peak"] == pytest.approx(
        3 * 2 * (64 * 64 + 64 * 32 + 32 * 10) * 1e9 / 989e12, abs=1e-4
    )
    assert training.share_of_peak(DIGITS_FC, 1e9, CPU) == {}


def test_what_is_not_to_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be accepted."""
    with pytest.raises(SystemExit):
        perf.main(["--only", "trainings"])
    assert "training, submodels, oracle" in capsys.readouterr().err


@pytest.mark.slow
def test_beside_packages_the_results_are_equal_first(tmp_path: Path) -> None:
    """The same optimum as scipy's; no loss that torchattacks makes larger, if it is installed."""
    content = perf.main(
        ["--device", "cpu", "--repeats", "1", "--share", "0.1", "--out", str(tmp_path), "--only", "packages"]
    )
    assert content["measures"][-1]["largest_difference"] < 1e-6
    assert all(m["theirs_is_higher_by"] < 1e-5 for m in content["measures"][:-1])
