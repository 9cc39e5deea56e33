"""What a repair of the poisoned network was worth and what it cost: python
examples/poisoned/measure.py OUT RUN

OUT is the folder of make.py, RUN that of `airepair repair`. Per method: accuracy on clean test
images, accuracy on images with the square that neither the repair nor its choice of a state has
seen, how often the square still leads to 0, and the training images and CPU seconds.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from airepair import data
from airepair.data.user_inputs import read_inputs
from airepair.evaluation.exam import sit
from airepair.models.recognise import load
from airepair.records import read

TARGET = 0


def main(out: Path, run: Path) -> None:
    """A line for the network as it was, then one per repaired model."""
    torch.set_num_threads(1)
    images = data.load(torch.load(out / "poisoned.pt", weights_only=True)["data"], seed=0)
    triggered = read_inputs(f"npz:{out / 'triggered.npz'}", images.classes, images.shape)
    rows = [("before", out / "poisoned.pt", {}, {})]
    rows += [
        (r.case.method, run / "models" / f"{r.key}.pt", r.budget, r.cost)
        for r in read([run])[0]
        if r.status == "repaired"
    ]
    print(f"{'':<16}{'clean':>8}{'square':>8}{'leads to 0':>12}{'images':>10}{'CPU s':>9}")
    for name, file, budget, cost in rows:
        module = network(file, images.shape)
        clean, square = sit(module, images.test), sit(module, triggered)
        led = float((square.predictions == TARGET).double().mean())
        costs = f"{budget['backward']:>10,}{cost['cpu_seconds']:>9.1f}" if budget else ""
        print(f"{name:<16}{clean.accuracy:>8.4f}{square.accuracy:>8.4f}{led:>12.4f}{costs}")


def network(file: Path, shape: tuple[int, int, int]) -> nn.Module:
    """The network of a state dict, or of the module beside it where that does not tell the
    architecture (prdnn's two channels).
    """
    whole = file.with_name(f"{file.stem}.module.pt")
    if whole.is_file():
        module: nn.Module = torch.load(whole, weights_only=False)  # a pickle, which the run wrote
        return module.eval()
    return load(torch.load(file, weights_only=True), None, shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
