"""Every cell of the grid, in the paper's order: Table I's columns, then the others; controls first,
then the paper's methods. Free of torch.
"""

from __future__ import annotations

from airepair.methods import METHODS, ON_REQUEST
from airepair.settings import Profile

# Table I of the paper, left to right, then what this project adds.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("cifar10", "resnet18"),
    ("cifar10", "resnet34"),
    ("cifar10", "resnet50"),
    ("cifar100", "resnet18"),
    ("cifar100", "resnet34"),
    ("cifar100", "resnet50"),
    ("cifar10", "resnet18w16"),
    ("cifar100", "resnet18w16"),
    ("cifar10", "resnet18_undertrained"),
    ("cifar10", "resnet34_undertrained"),
    ("cifar10", "resnet50_undertrained"),
    ("cifar100", "resnet18_undertrained"),
    ("cifar100", "resnet34_undertrained"),
    ("cifar100", "resnet50_undertrained"),
    ("mnist", "cnn"),
    ("fashion_mnist", "cnn"),
    ("mnist", "fc"),
    ("fashion_mnist", "fc"),
    ("digits", "cnn"),
    ("digits", "fc"),
    ("digits", "keras_cnn"),  # a Keras file, brought as a user would bring it (airepair/models/shipped)
    # Healthy subjects, trained on right labels: what each method costs where nothing is broken.
    ("digits", "cnn+clean"),
    ("digits", "fc+clean"),
    # Faults with a known cause (docs/faults.md): Table II. Severities are the faults' own.
    ("digits", "fc+imbalanced"),
    ("digits", "fc+missing"),
    ("digits", "fc+mislabelled"),
    ("digits", "fc+backdoor"),
    ("digits", "fc+damaged"),
    ("digits+fog3", "fc"),
    (
        "digits+fog3",
        "cnn",
    ),  # where deepcorrect, which corrects filters under a distortion, has something to correct
    ("mnist", "fc+imbalanced"),
    ("mnist", "fc+missing"),
    ("mnist", "fc+mislabelled"),
    ("mnist+fog3", "cnn"),
    ("fashion_mnist+fog3", "cnn"),
)

# A file is the same for all seeds: one shows its way, and more say little. The environments of the
# real data sets show that their methods run there; a CNN's cells take minutes each.
ONE_SEED = (("digits", "keras_cnn"), ("mnist+fog3", "cnn"), ("fashion_mnist+fog3", "cnn"))

# The default selection is profile smoke's, of these data sets: minutes on two CPU cores, no
# download. Ablations run here unless they are switched off.
DEFAULT_DATASETS = ("digits",)

# Floors: what a metric of a cell must at least reach, if a claim of the project rests on it. (A
# healthy subject has few failing inputs, and fine-tuning may leave them all.)
FLOORS: dict[str, dict[str, float]] = {
    "digits-fc-finetune-s*": {"repair_rate": 0.2},
    "digits-cnn-finetune-s*": {"repair_rate": 0.2},
}


def seeds(dataset: str, model: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds of a column; `usual` are the profile's."""
    return usual[:1] if (dataset, model) in ONE_SEED else usual


def in_profile(profile: Profile, dataset: str, model: str) -> bool:
    """Whether a column belongs to the selection of a profile."""
    if "+" in dataset + model and not profile.faults:
        return False
    plain = dataset.partition("+")[0], model.partition("+")[0]
    return plain[0] in profile.datasets and (not profile.models or plain[1] in profile.models)


def methods() -> list[str]:
    """Every registered method, built-in and installed, but those on request."""
    return [m for m in METHODS.names() if m not in ON_REQUEST]
