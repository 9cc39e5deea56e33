"""The digest of a model: equal exactly if its parameters and buffers are."""

from __future__ import annotations

from torch import nn

from airepair.host.tensor_cache import digest_of


def digest(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all parameters and buffers."""
    return digest_of(module.state_dict())
