"""torch files as training scripts leave them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

SHAPE = (1, 8, 8)
SCRIPT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(108, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))

if __name__ == "__main__":
    import sys
    torch.manual_seed(0)
    torch.save(Net().eval(), sys.argv[1])
"""


def network(*tail: nn.Module) -> nn.Sequential:
    """A convolutional network with seeded weights, and what follows its logits."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5), *tail
        ).eval()


def script(folder: Path) -> Path:
    """A module that a script pickled: its class is `__main__.Net`; the script lies beside it."""
    path = folder / "net.pt"
    (folder / "train.py").write_text(SCRIPT)
    subprocess.run([sys.executable, str(folder / "train.py"), str(path)], check=True)
    return path


def module(folder: Path, tail: type[nn.Module]) -> Path:
    """A pickled module that ends in that layer, over the classes."""
    path = folder / "net.pt"
    torch.save(network(tail(1)), path)
    return path


def counters(folder: Path) -> Path:
    """A state dict whose num_batches_tracked has shape (1,)."""
    path = folder / "net.pt"
    torch.save(
        {
            k: v.reshape(1) if k.endswith("num_batches_tracked") else v
            for k, v in network().state_dict().items()
        },
        path,
    )
    return path


def averaged(folder: Path) -> Path:
    """A checkpoint with weights, their moving average, and figures beside them."""
    path = folder / "net.pt"
    state = network().state_dict()
    torch.save(
        {
            "model": state,
            "model_ema": {k: v.clone() for k, v in state.items()},
            "best_prec1": 91.2,
            "epoch": 3,
        },
        path,
    )
    return path


def architecture(tensors: Any) -> nn.Module:
    """The network of `counters` and `averaged`, with these weights."""
    made = network()
    made.load_state_dict(
        {k: v.reshape(()) if k.endswith("num_batches_tracked") else v for k, v in tensors.items()}
    )
    return made


KINDS: dict[str, Callable[[Path], Path]] = {
    "a module of the script that trained it (`__main__.Net`)": script,
    "a module that ends in LogSoftmax": partial(module, tail=nn.LogSoftmax),
    "a module that ends in Softmax": partial(module, tail=nn.Softmax),
    "counters of shape (1,)": counters,
    "`model` and `model_ema`, figures beside them": averaged,
}
