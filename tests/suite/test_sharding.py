"""Sharding: the GPUs of a run, workers pinned to them, threads divided, and the number of workers."""

import os
import shlex
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from execnet.xspec import XSpec

from airepair.errors import UsageError
from airepair.host.orphans import ending_with_parent
from airepair.suite.gpus import busy, chosen, visible
from fixtures import sharding
from tests import pretend_nvml


def config(device: str = "auto", gpus: str = "auto", per: int = 1, dist: str = "no") -> Any:
    """A config that knows the options."""
    options = {"airepair_device": device, "airepair_gpus": gpus, "airepair_workers_per_gpu": per}
    options |= {"dist": dist}
    return SimpleNamespace(getoption=lambda name, _=None: options[name], stash=pytest.Stash())


def specs(count: int) -> list[Any]:
    """xdist's worker specifications."""
    return [XSpec("popen") for _ in range(count)]


def test_workers_are_pinned_round_robin_into_the_caller_s_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids are the caller's CUDA_VISIBLE_DEVICES, in the caller's order."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    found, run = specs(3), config()
    sharding.pytest_configure(run)
    sharding.pytest_xdist_setupnodes(run, found)
    assert [s.env["CUDA_VISIBLE_DEVICES"] for s in found] == ["3", "5", "3"]
    assert not any("CUDA_DEVICE_ORDER" in s.env for s in found)
    assert "CUDA_DEVICE_ORDER" not in os.environ
    assert sharding.pytest_xdist_auto_num_workers(run) == 2
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    sharding.pytest_xdist_setupnodes(run, found)
    assert {s.env["CUDA_DEVICE_ORDER"] for s in found} == {"FASTEST_FIRST"}


@pytest.mark.parametrize("gpus", ["auto", "1"])
def test_gpus_that_the_user_has_not_numbered_are_numbered_by_nvml(
    monkeypatch: pytest.MonkeyPatch, gpus: str
) -> None:
    """In a serial run as in workers: CUDA by itself counts the fastest card first, NVML by the bus."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # put back after the test, as the next two
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    cards = {"0": pretend_nvml.Card(), "1": pretend_nvml.Card()}
    monkeypatch.setitem(sys.modules, "pynvml", pretend_nvml.module(cards))
    found, run = specs(1), config(gpus=gpus)
    sharding.pytest_configure(run)
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    sharding.pytest_xdist_setupnodes(run, found)
    assert found[0].env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert found[0].env["CUDA_VISIBLE_DEVICES"] == ("1" if gpus == "1" else "0")


@pytest.mark.parametrize(
    ("given", "expected"), [("0,-1,1", ["0"]), ("-1", []), ("2, GPU-b", ["2", "GPU-b"]), ("", [])]
)
def test_cuda_sees_no_card_behind_an_entry_that_names_none(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: list[str]
) -> None:
    """A worker pinned to one behind it would have no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible() == expected


def test_workers_and_the_number_of_a_card_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker sees one card; the line says how that card is chosen for all of them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(pytest.UsageError, match=r"--device cuda:1 .*accepted: --gpus 1 --device cuda$"):
        sharding.pytest_configure(config("cuda:1", dist="load"))
    sharding.pytest_configure(config("cuda:1"))
    sharding.pytest_configure(config("cuda", dist="load"))


def test_several_workers_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """--workers-per-gpu multiplies what -n auto starts; the pins go round."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    found, run = specs(4), config(per=2)
    assert sharding.pytest_xdist_auto_num_workers(run) == 4
    sharding.pytest_xdist_setupnodes(run, found)
    assert [s.env["CUDA_VISIBLE_DEVICES"] for s in found] == ["3", "5", "3", "5"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [("auto", ["3", "GPU-b", "7"]), ("none", []), ("2,0", ["7", "3"]), ("1", ["GPU-b"])],
)
def test_gpus_are_counted_among_those_that_the_caller_may_use(
    monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]
) -> None:
    """--gpus 1 is the second of an outer CUDA_VISIBLE_DEVICES, whatever its name there."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b,7")
    run = config(gpus=words)
    assert sharding.gpus_of(run) == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(expected))
    assert sharding.gpus_of(run) == expected  # pinning does not count a second time


@pytest.mark.parametrize("words", ["3", "0,x", "-1", ""])
def test_a_gpu_that_is_not_there_is_a_usage_error(words: str) -> None:
    """The error names what is there."""
    with pytest.raises(UsageError, match=r"none of the 2 GPUs that are visible; accepted: 0, 1, auto, none"):
        chosen(words, ["a", "b"])


def test_no_gpu_and_a_device_that_needs_one_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error, and no silent run on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(pytest.UsageError, match="--gpus none leaves no GPU for --device cuda"):
        sharding.gpus_of(config("cuda", "none"))


def test_a_run_sees_only_the_gpus_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A serial run has no worker whose environment could be set: its own is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    sharding.pytest_configure(config(gpus="1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


def test_without_a_gpu_the_processors_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """-n auto is what this process may use; each worker gets its share of the threads, and they
    sleep when idle.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    found, run = specs(4), config()
    sharding.pytest_xdist_setupnodes(run, found)
    assert {s.env["OMP_NUM_THREADS"] for s in found} == {"2"}
    assert {s.env["OMP_WAIT_POLICY"] for s in found} == {"PASSIVE"}
    assert all("CUDA_VISIBLE_DEVICES" not in s.env for s in found)
    assert sharding.pytest_xdist_auto_num_workers(run) == 8


def test_on_the_cpu_no_gpu_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """--device cpu leaves the GPUs alone."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = specs(1)
    sharding.pytest_xdist_setupnodes(config("cpu"), found)
    assert "CUDA_VISIBLE_DEVICES" not in found[0].env


def test_a_busy_card_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its memory or by its time; a free one is not mentioned, and one that NVML does not answer
    for neither.
    """
    cards = {
        "0": pretend_nvml.Card(used=1),
        "1": pretend_nvml.Card(used=61),
        "GPU-b": pretend_nvml.Card(percent=97),
        "9": None,
    }
    monkeypatch.setitem(sys.modules, "pynvml", pretend_nvml.module(cards))
    assert list(busy(["0", "1", "GPU-b", "9"])) == [
        "GPU 1 is busy (61.0 of 80.0 GiB used, 0 % utilised): seconds and memory of cells on it are no "
        "measure",
        "GPU GPU-b is busy (1.0 of 80.0 GiB used, 97 % utilised): seconds and memory of cells on it are "
        "no measure",
    ]


def test_a_machine_without_nvml_has_no_busy_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known, so nothing is claimed."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert list(busy(["0"])) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker looks for its controller itself")
def test_a_worker_is_started_so_that_it_ends_with_its_controller() -> None:
    """With the interpreter that the user names; a worker on another machine starts as it did."""
    found = [XSpec("popen//python=/a python"), XSpec("ssh=there")]
    sharding.pytest_xdist_setupnodes(config("cpu"), found)
    assert shlex.split(found[0].python)[-2:] == ["/a", "python"]
    assert shlex.split(found[0].python)[:-2] == ending_with_parent([])
    assert found[1].python is None
