"""A subject that is near chance, or scores far better with another scaling, is not repaired but
refused, with what it would score otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import bdtrc
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.evaluation.exam import Exam, confusion_matrix, sit
from airepair.subjects.user_model.input_spec import InputSpec
from airepair.types import Dataset, Split

PROBED = 1000  # validation images that each common scaling is tried on
GUESSED = 0.00135  # how likely an accuracy is by guessing, at most: three standard errors of a normal
# Normalisations of pixels in 0..1 that training scripts carry about, and whose they are: a network
# that one of them fits was more likely trained with it than with numbers that are computed here.
KNOWN: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "MNIST's": ((0.1307,), (0.3081,)),  # pytorch/examples, mnist/main.py
    "Fashion-MNIST's": ((0.286,), (0.353,)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # pytorch/examples, imagenet/main.py
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "CIFAR-10's, of kuangliu/pytorch-cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
    "CIFAR-100's": (
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),  # weiaicunzai/pytorch-cifar100, conf/global_settings.py
}
OWN = "the data set's own"
CAFFE = (
    (103.939, 116.779, 123.68),
    (1.0, 1.0, 1.0),
)  # of pixels in 0..255, blue first: the older ImageNet networks of Keras

TURNED = {"flat": "flat-NHWC", "flat-NHWC": "flat"}  # the other order of a flat colour image

# A network as it would be fed otherwise.
Refeed = Callable[[InputSpec], nn.Module]


@dataclass(frozen=True)
class Tried:
    """It is a common scaling: in words, as options, and the validation accuracy with it.

    `whose` numbers: a key of KNOWN, OWN, or "".
    """

    words: str
    options: str
    accuracy: float
    whose: str = ""


def by_chance(right: int, images: int, classes: int) -> bool:
    """Returns whether a guess between the classes may be right on as many of the images, or more."""
    return bool(bdtrc(right - 1, images, 1 / classes) > GUESSED) if right else True


def refuse_near_chance(
    what: str, module: nn.Module, refeed: Refeed | None, feeding: InputSpec, data: Dataset
) -> str:
    """Raises UsageError if `module` is near chance on validation, or if nothing states its scaling and
    another one is clearly better.

    Returns a note if validation has so few images that a guess may be right on all of them: then a
    module near chance is not refused. Else "". `refeed` None: the pre-processing is the user's own
    code, and no other is tried.
    """
    probes = (
        data.validation
        if len(data.validation) <= PROBED
        else data.validation.select(_spread(data.validation))
    )
    exam = sit(module, probes)
    classes, images = len(data.classes), len(probes)
    few = by_chance(images, images, classes)
    near = not few and (
        by_chance(int(exam.right.sum()), images, classes)
        or (feeding.classes is None and bool(_renamed(exam, classes)))
    )
    unsaid = feeding.origins.get("input_range") == "default"
    note = (
        f"validation has {images} images of {classes} classes: too few to tell an accuracy of "
        f"{_show(exam.accuracy)} from chance"
        if few
        else ""
    )
    if not (near or unsaid) or (not near and exam.accuracy > 0.9):
        return note
    if refeed is None:
        raise UsageError(
            f"{what} is near chance on {data.name}: validation accuracy {_show(exam.accuracy)} with its "
            f"own preprocess"
        )
    others = common(refeed, feeding, probes, data)
    best = best_of(others, len(probes))
    clearly = 3 * math.sqrt(0.5 / len(probes))  # three standard errors of a difference, at most
    if not near and best.accuracy - exam.accuracy <= clearly:
        return note
    rest = [t for t in sorted(others, key=lambda t: -t.accuracy) if t is not best][:5]
    listed = ", ".join(f"{t.words} {_show(t.accuracy)}" for t in rest)
    start = (
        f"{what} is near chance on {data.name}"
        if near
        else f"{what} scores less on {data.name} than it would with another scaling"
    )
    start += f": validation accuracy {_show(exam.accuracy)} {words_of(feeding)}"
    if best.accuracy - exam.accuracy > clearly:
        advice = f"{best.words} it would be {_show(best.accuracy)}; give {best.options}"
        stay = "" if near else f", or {options_of(feeding)} to keep it as it is"
        raise UsageError(f"{start}; {advice}{stay} (others: {listed})")
    raise UsageError(
        f"{start}; no common scaling helps ({best.words} {_show(best.accuracy)}, "
        f"{listed}){_renamed(exam, classes)}"
    )


def best_of(others: list[Tried], probes: int) -> Tried:
    """Returns the scaling with the highest accuracy; a well-known one before the data set's own
    numbers where both fit.

    Both fit where they are within one standard error, at most, of an accuracy on so many probes.
    """
    best = max(others, key=lambda t: t.accuracy)
    known = max((t for t in others if t.whose in KNOWN), key=lambda t: t.accuracy, default=best)
    return known if best.whose == OWN and best.accuracy - known.accuracy <= math.sqrt(0.25 / probes) else best


def common(refeed: Refeed, feeding: InputSpec, probes: Split, data: Dataset) -> list[Tried]:
    """Returns the validation accuracy under the scalings that networks are usually trained with,
    other than the present one.
    """
    bare = replace(feeding, mean=None, std=None, colours=None)
    in_unit = replace(bare, input_range=(0.0, 1.0))
    plain = [replace(bare, input_range=r) for r in ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0), (1.0, 0.0))]
    found = [(f, "") for f in plain]
    found += [
        (replace(in_unit, mean=m, std=s), whose) for whose, (m, s) in KNOWN.items() if len(m) == data.shape[0]
    ]
    found.append((replace(in_unit, mean=_rounded(data, "mean"), std=_rounded(data, "std")), OWN))
    if data.shape[0] == 3:
        found += [(replace(f, colours="bgr"), "") for f in plain[:3]]
        found.append(
            (replace(bare, input_range=(0.0, 255.0), mean=CAFFE[0], std=CAFFE[1], colours="bgr"), "")
        )
    others = [(f, whose) for f, whose in found if options_of(f) != options_of(feeding)]
    if data.shape[0] > 1 and feeding.layout in TURNED:
        others += [(replace(f, layout=TURNED[feeding.layout]), "") for f in (feeding, *plain[:2])]

    def tried(f: InputSpec, whose: str) -> Tried:
        words, option = (
            ("", "") if f.layout == feeding.layout else (f" and layout {f.layout}", f" --layout {f.layout}")
        )
        said = f" ({whose})" if whose else ""
        return Tried(
            words_of(f) + said + words, options_of(f) + option, sit(refeed(f), probes).accuracy, whose
        )

    return [tried(f, whose) for f, whose in others]


def words_of(feeding: InputSpec) -> str:
    """Returns a feeding in a few words: "with pixels in 0..255"."""
    words = f"with pixels in {_range(feeding)}"
    if feeding.mean is not None and feeding.std is not None:
        words += f", mean {_list(feeding.mean)} and std {_list(feeding.std)}"
    return words + (" and colours bgr" if feeding.colours == "bgr" else "")


def options_of(feeding: InputSpec) -> str:
    """Returns a feeding as options of the command line."""
    words = f"--input-range{'=' if _range(feeding).startswith('-') else ' '}{_range(feeding)}"
    if feeding.mean is not None and feeding.std is not None:
        words += f" --mean {_list(feeding.mean)} --std {_list(feeding.std)}"
    return words + (" --colours bgr" if feeding.colours == "bgr" else "")


def _range(feeding: InputSpec) -> str:
    return "..".join(f"{v:g}" for v in feeding.input_range or (0.0, 1.0))


def _list(values: tuple[float, ...]) -> str:
    return ",".join(f"{v:.6g}" for v in values)


def _show(accuracy: float) -> str:
    return f"{accuracy:.3f}".lstrip("0") if accuracy < 1 else "1.000"


def _spread(split: Split) -> Tensor:
    """PROBED of its images, evenly spaced."""
    return torch.linspace(0, len(split) - 1, PROBED).long().to(split.x.device)


def _rounded(data: Dataset, what: str) -> tuple[float, ...]:
    """Mean or standard deviation of each channel of (up to PROBED) training images, as a person
    would write it.
    """
    split = data.train if len(data.train) else data.validation
    x = split.images(_spread(split)).transpose(0, 1).flatten(1)
    values = x.mean(1) if what == "mean" else x.std(1).clamp_min(1e-3)
    return tuple(round(float(v), 4) for v in values)


def _renamed(exam: Exam, classes: int) -> str:
    """What the best renaming of the classes would give, where that is far from chance: then their
    order is another one.
    """
    counts = confusion_matrix(exam, classes).numpy()
    rows, columns = linear_sum_assignment(-counts)
    best = float(counts[rows, columns].sum() / max(1, counts.sum()))
    fits = best > 0.5 and best > 2 * exam.accuracy
    return (
        f"; with its classes in another order it would be {_show(best)}: give --classes FILE, "
        f"their names in the model's order"
        if fits
        else ""
    )
