"""The tensors of K models with one architecture: a stack (K x shape) for each floating-point
parameter and buffer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from airepair.training.best_state import State

Stack = dict[str, Tensor]


def floating(module: nn.Module) -> tuple[str, ...]:
    """Returns the names of the floating-point parameters and buffers (batch-norm statistics
    included); of tied ones the first.
    """
    seen: set[tuple[int, tuple[int, ...]]] = set()
    names = []
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.is_floating_point() and (not tensor.numel() or place not in seen):
            seen.add(place)
            names.append(name)
    return tuple(names)


def stacked(states: Sequence[State], names: Sequence[str]) -> Stack:
    """The states of K models as one stack a name."""
    return {name: torch.stack([state[name] for state in states]) for name in names}


def concatenated(parts: Sequence[Stack]) -> Stack:
    """Stacks of several groups of models as one."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def put(module: nn.Module, stack: Stack, index: int) -> None:
    """Writes model `index` of the stack into the module; integer buffers stay."""
    state = module.state_dict()
    for name, rows in stack.items():
        state[name].copy_(rows[index])


@torch.no_grad()
def moved(module: nn.Module, own: Tensor, others: Tensor, stack: Stack) -> Stack:
    """Returns B models: own * w + others @ submodels, for every floating-point tensor, computed in
    double precision (`own`: B, `others`: B x K).

    All B in one product, so that the submodels are read once. Strategies that move away from the
    submodels leave their convex hull: a running variance then stops at 0.
    """
    state, found = module.state_dict(), {}
    for name, rows in stack.items():
        w = state[name]
        there = {"device": w.device, "dtype": torch.double}
        flat = torch.outer(own.to(**there), w.flatten().double()).addmm_(
            others.to(**there), rows.flatten(1).double()
        )
        made = flat.reshape(len(own), *w.shape).to(w.dtype)
        found[name] = made.clamp_min_(0) if name.endswith("running_var") else made
    return found
