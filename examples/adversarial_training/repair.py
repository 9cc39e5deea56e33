"""Repairs a job by adversarial training with the adversarial-robustness-toolbox; knows nothing of
airepair but the job's folder.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import save_file

STEPS = 5  # of the attack


def accuracy(module, x, y):
    """Share of right answers in evaluation mode."""
    module.eval()
    with torch.no_grad():
        return float((module(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def main(folder: Path) -> None:
    """Trains epoch by epoch and leaves the state with the best validation accuracy, the start included."""
    job, data = json.loads((folder / "job.json").read_text()), np.load(folder / "data.npz")
    options = job["options"]
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - the toolbox draws from the global generator
    module = torch.jit.load(str(folder / "model.pt"))
    x = np.concatenate([data["train_x"], data["failing_x"]])
    y = np.concatenate([data["train_y"], data["failing_y"]])
    classifier = PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=len(job["classes"]),
        optimizer=torch.optim.SGD(module.parameters(), options["lr"], momentum=0.9),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        classifier, eps=options["eps"], eps_step=options["eps"] / 2, max_iter=STEPS, verbose=False
    )
    trainer = AdversarialTrainer(classifier, attack, ratio=options["ratio"])
    best = accuracy(module, data["validation_x"], data["validation_y"])
    state = {k: v.clone() for k, v in module.state_dict().items()}
    print(f"start: validation accuracy {best:.4f}")
    for epoch in range(1, options["epochs"] + 1):
        trainer.fit(x, y, batch_size=64, nb_epochs=1)
        now = accuracy(module, data["validation_x"], data["validation_y"])
        print(json.dumps({"progress": ["adversarial training", epoch, options["epochs"], 1 - now]}))
        if now > best:
            best, state = now, {k: v.clone() for k, v in module.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "result.safetensors")
    attacked = int(len(x) * options["ratio"] * STEPS)
    report = {
        "backward": options["epochs"] * (len(x) + attacked),
        "forward": (options["epochs"] + 1) * len(data["validation_y"]),
    }
    report["notes"] = [
        "the images of the attack's own steps are counted as training images",
        f"validation accuracy {best:.4f}",
    ]
    (folder / "result.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
