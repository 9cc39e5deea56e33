"""A model file of a user's own, brought as a Subject: how it is fed, what its outputs mean, what it was trained on. Free of torch until used.

`brought_model` reads the file (any format), wraps the network so that it takes the data set's images in [0, 1] and answers in the data
set's order of classes, and gives a BroughtModel: `subject(seed)` is what is repaired, and `opened.write(repaired, path)` takes all of that off
again, so that the file comes back fed as it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from airepair.models.feeding import Brought, Feeding, add_feeding_arguments, case_name, shipped, stated

if TYPE_CHECKING:
    import torch

    from airepair.models.formats.opened import Opened
    from airepair.subjects.bringing import BroughtModel
    from airepair.types import Split, Subject

__all__ = [
    "Brought",
    "Feeding",
    "add_feeding_arguments",
    "asked",
    "bring",
    "brought_from",
    "brought_model",
    "case_name",
    "shipped",
    "wanted",
]


def brought_from(arguments: argparse.Namespace, path: str | Path | None = None) -> Brought:
    """`path` (or `--pretrained`) with `--net_arch`, `--depth` and what add_feeding_arguments gave. UsageError for a value that cannot be."""
    feeding = stated({k: getattr(arguments, k) for k in ("input_range", "mean", "std", "layout", "colours", "classes")}, "option", Path())
    return Brought(
        Path(arguments.pretrained if path is None else path).expanduser(),
        getattr(arguments, "net_arch", None),
        getattr(arguments, "depth", None),
        feeding,
        arguments.trained_on,
        arguments.trust_pickle,
        arguments.trust_lambda,
        early=Path(arguments.early).expanduser() if arguments.early else None,
        weights=arguments.weights,
    )


def bring(brought: Brought, dataset: str, *, profile: str, device: torch.device, seed: int = 0) -> tuple[Subject, Opened]:
    """The file's network as a subject on the data set, its unseen images divided by the seed, and the way back: `brought_model` for one seed."""
    model = brought_model(brought, dataset, profile=profile, device=device)
    return model.subject(seed), model.opened


def brought_model(brought: Brought, dataset: str, *, profile: str, device: torch.device, repair: bool = True) -> BroughtModel:
    """The file's network, opened once for a data set (any name of data.load) at the profile's size ("none": whole).

    `.subject(seed)` is the subject with its unseen images divided by that seed; `.opened.write(repaired, path)` takes the repaired module
    of the pipeline as it stands. UsageError, one line, if the file cannot be read, does not fit the data set, or is near chance there;
    then the error lists what it would score with other scalings. Without `repair` the whole official test set is test, unless a repair
    that wrote the file has used some of it.
    """
    from airepair.subjects.bringing import brought_model as load

    return load(brought, dataset, profile=profile, device=device, repair=repair)


def wanted(text: str, classes: tuple[str, ...], shape: tuple[int, int, int], *, labelled: bool = True) -> Split:
    """The images of `npz:PATH` (x, y or x_train, y_train) or `folder:PATH` (class folders) with labels in the order of `classes`.

    With `labelled=False` labels may be absent, and are then 0. UsageError for images of another shape and labels outside the classes.
    """
    from airepair.data.asked import wanted as load

    return load(text, classes, shape, labelled=labelled)


def asked(subject: Subject, failing: str | None, keep: str | None) -> tuple[Split | None, Split | None]:
    """`--failing` and `--keep` on the subject's device, for pipeline.prepare; None where not given.

    The labels of `keep` do not count: its answers are the subject's own. UsageError where a wanted label is what the subject says already.
    """
    from airepair.subjects.bringing import asked as load

    return load(subject, failing, keep)
