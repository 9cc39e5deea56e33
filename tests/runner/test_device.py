"""Which device a word names, and what that sets in this process."""

from __future__ import annotations

import pytest
import torch

from airepair.errors import UsageError
from airepair.runner.device import device_of


def test_a_card_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, recorded graphs and what a method makes on "cuda" are then on it, and not on the first."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")
    assert len(current) == 1
    with pytest.raises(UsageError, match=r"--device cuda:2: .* sees 2 .*: auto, cpu, cuda:0, cuda:1$"):
        device_of("cuda:2")
    assert len(current) == 1
