"""The NVML view of a CUDA device: memory in use, and how busy it is, its power and energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class Nvml:
    """The NVML view of one CUDA device, found by its UUID (NVML counts in PCI order, CUDA need not)."""

    def __init__(self, device: torch.device) -> None:
        import pynvml

        pynvml.nvmlInit()
        self.nvml = pynvml
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")

    @classmethod
    def of(cls, device: torch.device) -> Nvml | None:
        """Returns the view, or None without CUDA or without NVML."""
        if device.type != "cuda":
            return None
        try:
            return cls(device)
        except Exception:
            return None

    def used(self) -> int | None:
        """Returns the bytes in use on the whole device, if it has memory of its own."""
        return self._value_or_none(lambda: int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used))

    def percent(self) -> int | None:
        """Returns how much of the last moments (a sixth of a second to one) some kernel ran; a MIG
        slice has none.
        """
        return self._value_or_none(lambda: int(self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu))

    def watts(self) -> float | None:
        """Returns the power that the device draws."""
        return self._value_or_none(lambda: float(self.nvml.nvmlDeviceGetPowerUsage(self.handle)) / 1000)

    def joules(self) -> float | None:
        """Returns the energy counter, if the device has one."""
        return self._value_or_none(
            lambda: float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1000
        )

    def _value_or_none(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except self.nvml.NVMLError:
            return None
