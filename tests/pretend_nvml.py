"""A pretend NVML for tests: cards with what they use, by index or UUID."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

GIB = 2**30


class NVMLError(Exception):
    """What NVML raises."""


@dataclass
class Card:
    """Of 80 GiB: `used` in GiB, `percent` of its time, `watts`, and `millijoules` so far."""

    used: float = 1.0
    percent: int = 0
    watts: float = 70.0
    millijoules: int = 0


def module(cards: Mapping[str, Card | None]) -> Any:
    """What `import pynvml` gives; a card that is None answers nothing."""

    def card(name: object) -> Card:
        found = cards[str(name)]
        if found is None:
            raise NVMLError
        return found

    found: Any = ModuleType("pynvml")
    found.NVMLError = NVMLError
    found.nvmlInit = lambda: None
    found.nvmlDeviceGetCount = lambda: len(cards)
    found.nvmlDeviceGetHandleByIndex = found.nvmlDeviceGetHandleByUUID = card
    found.nvmlDeviceGetMemoryInfo = lambda c: SimpleNamespace(used=int(c.used * GIB), total=80 * GIB)
    found.nvmlDeviceGetUtilizationRates = lambda c: SimpleNamespace(gpu=c.percent)
    found.nvmlDeviceGetPowerUsage = lambda c: int(c.watts * 1000)
    found.nvmlDeviceGetTotalEnergyConsumption = lambda c: c.millijoules
    return found
