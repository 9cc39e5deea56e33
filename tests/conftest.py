"""One thread, as everywhere on the CPU; a cache of its own for each run."""

import pytest
import torch

from airepair.subjects import baseline


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Two spinning threads can be forty times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a training really ran."""
    found: list[int] = []
    real = baseline.train
    monkeypatch.setattr(baseline, "train", lambda *a, **k: (found.append(1), real(*a, **k))[1])
    return found
