"""What is sampled beside a repair, with a pretend NVML where a GPU would be."""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from airepair.report.usage import HEIGHT, POINTS, WIDTH, usage
from airepair.runner import cost
from airepair.runner.cost import Sample, Sampler, descendants, mean, measure
from airepair.runner.nvml import Nvml
from tests import pretend_nvml


def test_samples_hold_the_memory_and_the_cpu_seconds_of_the_call() -> None:
    """They grow while it works, and are told as lines without what is not known."""

    def work() -> None:
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass

    found = measure(work, torch.device("cpu")).samples
    assert found[-1].cpu_seconds >= 0.35
    assert [s.cpu_seconds for s in found] == sorted(s.cpu_seconds for s in found)
    assert found[0].resident_bytes > 2**20
    assert found[-1].as_row().keys() == {"seconds", "resident_bytes", "cpu_seconds"}


def test_a_long_call_is_sampled_once_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times per second at first: an hour leaves 3,690 lines and not 36,000."""
    waited: list[float] = []

    class Done:
        def is_set(self) -> bool:
            return len(waited) == cost.FIRST + 2

        def wait(self, seconds: float) -> None:
            waited.append(seconds)

    sampler = Sampler(None)
    monkeypatch.setattr(sampler, "done", Done())
    sampler.run()
    assert waited[: cost.FIRST - 1] == [0.1] * (cost.FIRST - 1)
    assert waited[cost.FIRST :] == [1.0, 1.0]


def test_the_gpu_s_time_memory_power_and_energy_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the card that CUDA uses, by its UUID; energy counts from the start."""
    card = pretend_nvml.Card(used=3.0, percent=40, watts=250.0, millijoules=5_000)
    monkeypatch.setitem(sys.modules, "pynvml", pretend_nvml.module({"GPU-a": card}))
    properties = SimpleNamespace(uuid="a")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    nvml = Nvml.of(torch.device("cuda", 0))
    assert nvml is not None
    sampler = Sampler(nvml)
    sampler.sample()
    card.percent, card.watts, card.millijoules = 80, 350.0, 9_500
    sampler.sample()
    rows = [s.as_row() for s in sampler.samples]
    assert [r["gpu_percent"] for r in rows] == [40, 80]
    assert [r["watts"] for r in rows] == [250.0, 350.0]
    assert [r["joules"] for r in rows] == [0.0, 4.5]
    assert rows[0]["gpu_bytes"] == 3 * 2**30
    assert mean([s.gpu_percent for s in sampler.samples]) == 60.0


def test_what_a_card_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MIG slice has no utilisation, an old card no energy counter; without values there is no mean."""
    module = pretend_nvml.module({"GPU-a": pretend_nvml.Card()})

    def refuse(_: object) -> None:
        raise pretend_nvml.NVMLError

    module.nvmlDeviceGetUtilizationRates = module.nvmlDeviceGetTotalEnergyConsumption = refuse
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="GPU-a"))
    sampler = Sampler(Nvml.of(torch.device("cuda", 0)))
    sampler.sample()
    assert sampler.samples[0].as_row().keys() == {
        "seconds", "resident_bytes", "cpu_seconds", "gpu_bytes", "watts"
    }  # fmt: skip
    assert mean([None, None]) is None


class Allocator:
    """Stands for CUDA's allocator of a card: `events` are what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, card: pretend_nvml.Card) -> None:
        self.events: list[str] = []
        self.card, self.cached, self.broken = card, 1.0, False
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: self.asked(name))
        for name in ("memory_allocated", "max_memory_allocated"):
            monkeypatch.setattr(torch.cuda, name, lambda _: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="GPU-a"))
        monkeypatch.setitem(sys.modules, "pynvml", pretend_nvml.module({"GPU-a": card}))

    def asked(self, name: str) -> None:
        """Notes it; an emptied cache is free on the card."""
        self.events.append(name)
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if name == "empty_cache":
            self.card.used -= self.cached
            self.cached = 0.0


def test_what_the_cell_before_left_in_the_cache_is_no_memory_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peak on the card is counted from what is in use without it, in whatever order cells run."""
    card = pretend_nvml.Card(used=3.0)
    Allocator(monkeypatch, card)

    def call() -> None:
        card.used += 1.5

    assert measure(call, torch.device("cuda")).nvml_peak_bytes == int(1.5 * 2**30)


def test_a_device_that_fails_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes out of the measurement, and the samples end."""
    allocator = Allocator(monkeypatch, pretend_nvml.Card())

    def call() -> None:
        allocator.broken = True
        raise ValueError("the method's own")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        measure(call, torch.device("cuda"))
    assert not [t for t in threading.enumerate() if isinstance(t, Sampler)]


def test_a_card_without_memory_of_its_own_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML does not answer for memory that is the host's, too; the cell is measured all the same."""
    Allocator(monkeypatch, pretend_nvml.Card())

    def refuse(_: object) -> None:
        raise pretend_nvml.NVMLError

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetMemoryInfo", refuse)
    found = measure(lambda: None, torch.device("cuda"))
    assert "nvml_peak_bytes" not in found.as_record()
    assert found.watts == 70.0


def test_a_process_without_children_has_no_descendants() -> None:
    """And one that has ended neither."""
    assert descendants(2**30) == []


def lay(folder: Path, samples: list[Sample]) -> None:
    """The samples of the cell `a`, as a run leaves them."""
    place = folder / "cells" / "a" / "cost.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text("".join(json.dumps(s.as_row()) + "\n" for s in samples))


def test_the_samples_of_a_cell_are_drawn(tmp_path: Path) -> None:
    """One panel per quantity that is known, from 0 to its highest value; two cores are two cores."""
    lay(tmp_path, [Sample(float(t), (t + 1) * 2**30, 2.0 * t, 2**31, 50, 300.0, 300.0 * t) for t in range(5)])
    found = usage([tmp_path / "other", tmp_path], "a")
    assert found is not None
    assert found.about == "5 samples in 4.0 s, 1,200 J by the GPU's counter"
    assert [(p.title, p.most) for p in found.panels] == [
        ("CPU", "2.00 cores"),
        ("Memory", "5.00 GiB"),
        ("GPU", "50.00 % of its time"),
        ("GPU memory", "2.00 GiB"),
        ("GPU power", "300 W"),
    ]
    assert found.panels[1].path == "0.0,39.2 50.0,30.4 100.0,21.6 150.0,12.8 200.0,4.0"


def test_a_long_repair_is_drawn_with_few_points_that_keep_its_peak(tmp_path: Path) -> None:
    """One sample of 3,600 is the highest: it is seen."""
    lay(tmp_path, [Sample(float(t), 2**30 if t != 1801 else 2**33, 0.5 * t) for t in range(3600)])
    found = usage([tmp_path], "a")
    assert found is not None
    assert [p.title for p in found.panels] == ["CPU", "Memory"]
    points = [tuple(map(float, p.split(","))) for p in found.panels[1].path.split()]
    assert len(points) <= POINTS
    assert min(y for _, y in points) == 4.0
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


@pytest.mark.parametrize("text", ["", "{", "[1]\n[2]\n[3]\n", '{"seconds": 1}\n', '{"seconds": "x"}\n' * 4])
def test_samples_that_are_few_or_damaged_are_not_drawn(tmp_path: Path, text: str) -> None:
    """The page is written all the same."""
    lay(tmp_path, [])
    (tmp_path / "cells" / "a" / "cost.jsonl").write_text(text)
    assert usage([tmp_path], "a") is None
    assert usage([tmp_path], "b") is None
