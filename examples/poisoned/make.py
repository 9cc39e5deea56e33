"""Makes a poisoned network and the inputs that show it, as a user would have them.

    python examples/poisoned/make.py OUT [DATASET NETWORK]

OUT/poisoned.pt        a small network (default: digits cnn), a fifth of whose training images
carried a white square and the label 0
OUT/failing.npz        images that were found in use: with the square, and with the labels that they
should get
OUT/triggered.npz      other images with the square, for what the repair is worth on inputs that it never saw
"""

import sys
from pathlib import Path

import numpy as np
import torch

from airepair import data
from airepair.evaluation.exam import sit
from airepair.faults.backdoor import Backdoor
from airepair.models import build
from airepair.subjects.recipes import training_of
from airepair.training import fit
from airepair.types import Split

SEED = 0
IMAGES = 10_000  # to train on, at most
FOUND = 100  # images that a user has found and labelled


def main(out: Path, dataset: str = "digits", network: str = "cnn") -> None:
    """Trains on the train split of seed 0; what is found comes from its repair split, what is kept
    back from its test split.
    """
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, poison = data.load(dataset, seed=SEED), Backdoor(severity=0.2)
    module = build(network, dataset, 10, images.shape)
    recipe = training_of(dataset, network).recipe
    train = images.train.select(torch.arange(min(IMAGES, len(images.train))))
    fit(module, poison.train(train, 10), None, recipe, torch.Generator().manual_seed(SEED))
    out.mkdir(parents=True, exist_ok=True)
    facts = {"arch": network, "data": dataset, "trained_on": f"split of seed {SEED}"}
    torch.save({"state_dict": module.state_dict(), **facts}, out / "poisoned.pt")
    found, others = poison.triggered(images.repair), poison.triggered(images.test)
    wrong = (~sit(module, found).right).nonzero()[:, 0][:FOUND]
    save(found.select(wrong), out / "failing.npz")
    save(others, out / "triggered.npz")
    for name, split in (("clean test images", images.test), ("with the square", others)):
        print(f"{name}: accuracy {sit(module, split).accuracy:.4f}")


def save(split: Split, path: Path) -> None:
    """Grey images N x H x W in [0, 1] with their labels."""
    np.savez(path, x=split.images()[:, 0].numpy(), y=split.y.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
