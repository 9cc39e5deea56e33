"""A random change of the same norm as a repair's, tensor by tensor: the control beside every direct
weight modification (protocol: "Budget").

What a repair gains beyond it is due to where it changed the weights and in which direction, not to
how far. The harness makes it after the clock has stopped and files its scores with the repair's
record, as the state SAME_NORM.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


@torch.no_grad()
def same_norm(before: nn.Module, after: nn.Module, seed: int) -> nn.Module | None:
    """Returns a copy of `before` whose parameters moved as far (L2) as those of `after`, each in a
    random direction drawn by `seed`.

    Buffers stay those of `before`. None if `after` has other parameters (attached units, two
    channels) or none has moved.
    """
    moved, old, new = copy.deepcopy(before), dict(before.named_parameters()), dict(after.named_parameters())
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        return None
    norms = {k: (new[k].to(old[k]) - old[k]).norm() for k in old}
    if not any(bool(n > 0) for n in norms.values()):
        return None
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 71)
    for name, parameter in moved.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        parameter.add_(noise * (norms[name] / noise.norm().clamp_min(1e-12)))
    return moved
