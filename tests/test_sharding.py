"""Sharding: one worker a GPU, threads divided, and the number of workers."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import sharding


def config(device: str = "auto") -> Any:
    """A config that knows the one option."""
    return SimpleNamespace(getoption=lambda name: device)


def specs(count: int) -> list[Any]:
    """xdist's worker specifications."""
    return [SimpleNamespace(env={}) for _ in range(count)]


def test_workers_are_pinned_round_robin_into_the_caller_s_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids are the caller's CUDA_VISIBLE_DEVICES, in PCI order."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    found = specs(3)
    sharding.pytest_xdist_setupnodes(config(), found)
    assert [s.env["CUDA_VISIBLE_DEVICES"] for s in found] == ["3", "5", "3"]
    assert {s.env["CUDA_DEVICE_ORDER"] for s in found} == {"PCI_BUS_ID"}
    assert sharding.pytest_xdist_auto_num_workers(config()) == 2


def test_without_a_gpu_the_processors_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """-n auto is the CPU count; each worker gets its share of the threads, and they sleep when idle."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = specs(4)
    sharding.pytest_xdist_setupnodes(config(), found)
    assert {s.env["OMP_NUM_THREADS"] for s in found} == {"2"}
    assert {s.env["OMP_WAIT_POLICY"] for s in found} == {"PASSIVE"}
    assert all("CUDA_VISIBLE_DEVICES" not in s.env for s in found)
    assert sharding.pytest_xdist_auto_num_workers(config()) == 8


def test_on_the_cpu_no_gpu_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """--device cpu leaves the GPUs alone."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = specs(1)
    sharding.pytest_xdist_setupnodes(config("cpu"), found)
    assert "CUDA_VISIBLE_DEVICES" not in found[0].env
