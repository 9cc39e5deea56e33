"""A model file of a user's own, brought as a Subject: how it is fed, what its outputs mean, what it
was trained on.

`brought_model` reads the file (any format), wraps the network so that it takes the data set's
images in [0, 1] and answers in the data set's order of classes, and gives a UserModel:
`subject(seed)` is what is repaired, and `opened.write(repaired, path)` takes all of that off again,
so that the file comes back fed as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair import data
from airepair.data.partition import ACCEPTED, divide_for, examination
from airepair.data.source import Source
from airepair.data.user_inputs import read_inputs
from airepair.errors import UsageError
from airepair.evaluation.exam import logits_of, most_confused, sit
from airepair.faults import of_case
from airepair.faults.fault import Fault
from airepair.formats import open_model
from airepair.formats.at_logits import at_logits
from airepair.formats.heads import PROBED
from airepair.formats.model_file import ModelFile
from airepair.host.arithmetic.precision import mark
from airepair.host.digest import of_files
from airepair.models import MODELS
from airepair.models.layouts import shape_in
from airepair.models.names import model_name
from airepair.models.recognise import load as recognised
from airepair.models.user_code import OwnCode, is_own_code, own_code
from airepair.settings import profile as profile_named
from airepair.subjects.faulty import in_environment
from airepair.subjects.grid import on_device, reduce
from airepair.subjects.user_model.class_order import wire
from airepair.subjects.user_model.early_checkpoint import early_file, early_state
from airepair.subjects.user_model.input_spec import FIELDS, InputSpec, ModelSource, beside, case_name, stated
from airepair.subjects.user_model.layout import with_layout
from airepair.subjects.user_model.normalisation import completed, with_adapter
from airepair.subjects.user_model.sanity_check import refuse_near_chance
from airepair.subjects.user_model.stated_recipe import recipe_of
from airepair.subjects.user_model.training_fault import as_trained, digests_of
from airepair.types import Dataset, Split, Subject

CHECKED = 256  # images of the data set that a conversion is checked on

Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class UserModel:
    """It holds a file's network, opened once; `subject(seed)` puts it before the division of that
    seed. `opened` is the way back to the file.

    `fixed`: the seed whose division a repair of this file has used already, which then stands for
    every seed; else None.
    """

    first: Subject
    opened: ModelFile
    environment: Fault | None
    division: Callable[[int], Dataset]
    fixed: int | None

    def subject(self, seed: int) -> Subject:
        """Returns the subject with its unseen images divided by the seed; the class pair is the one
        of seed 0.
        """
        if seed == 0 or self.fixed is not None:
            return self.first
        found = self._placed(replace(self.first, dataset=self.division(seed), environment=None, fault=None))
        return replace(found, pair=self._pair)

    def _placed(self, subject: Subject) -> Subject:
        return subject if self.environment is None else in_environment(subject, self.environment)

    @cached_property
    def _pair(self) -> tuple[int, int] | tuple[()]:
        data = self.first.dataset
        return most_confused(sit(self.first.module, data.validation), len(data.classes)) or ()


def bring(
    brought: ModelSource, dataset: str, *, profile: str, device: torch.device, seed: int = 0
) -> tuple[Subject, ModelFile]:
    """Returns the file's network as a subject on the data set, its unseen images divided by the
    seed, and the way back: `brought_model` for one seed.
    """
    model = brought_model(brought, dataset, profile=profile, device=device)
    return model.subject(seed), model.opened


def brought_model(
    brought: ModelSource, dataset: str, *, profile: str, device: torch.device, repair: bool = True
) -> UserModel:
    """Returns the file's network, opened once for a data set (any name of data.load) at the
    profile's size ("none": whole).

    `.subject(seed)` is the subject with its unseen images divided by that seed;
    `.opened.write(repaired, path)` takes the repaired module of the pipeline as it stands.
    UsageError, one line, if the file cannot be read, does not fit the data set, or is near chance
    there; then the error lists what it would score with other scalings. Without `repair` the whole
    official test set is test, unless a repair that wrote the file has used some of it.
    """
    path, own_data = brought.path, dataset.startswith(("npz:", "folder:"))
    environment = None if own_data else of_case(dataset, "")
    source = data.whole(dataset if own_data else dataset.partition("+")[0])
    shape = (int(source.train.x.shape[1]), int(source.train.x.shape[2]), int(source.train.x.shape[3]))
    values, file = beside(path)
    net_arch = brought.net_arch or _named(values, file)
    depth = brought.depth if brought.depth is not None else values.get("depth")
    own = own_code(str(net_arch)) if is_own_code(net_arch) else None
    feeding = brought.feeding.over(stated(values, file, path.parent))
    opening = partial(
        open_model,
        architecture=_architecture(own, net_arch, depth, source.name, len(source.classes), shape),
        classes=own.layers if own else (),
        shape=shape_in(feeding.layout or "NCHW", shape) or shape,
        trust_pickle=brought.trust_pickle,
        trust_lambda=brought.trust_lambda,
        images=source.train.images(slice(0, CHECKED)).numpy(),
        outputs=len(source.classes),
        weights=brought.weights or values.get("weights"),
    )
    opened = opening(path)
    prepare = own.preprocess if own else None
    feeding = _completed(feeding.over(_class_names(opened, source.classes)), opened, own)
    feeding = with_layout(feeding, opened, source, str(path), prepare)
    opened = _at_logits(opened, feeding, prepare, source, str(path))
    trained_on, said_by = _training_data(brought, values, file, opened)
    fixed = _fixed(values.get("divided_by", opened.facts.get("divided_by")), path)
    fault = str(values.get("fault") or opened.facts.get("fault") or "")
    images = {} if profile == "none" else dict(profile_named(profile).images.get(source.name, {}))

    def division(seed: int) -> Dataset:
        if repair or fixed is not None:
            divided = reduce(divide_for(source, trained_on, seed), images)
        else:
            divided = reduce(
                examination(source, trained_on, seed), {k: n for k, n in images.items() if k != "test"}
            )
        return on_device(as_trained(divided, trained_on, fault, opened.facts), device)

    divided = division(fixed or 0)
    wiring = wire(opened, feeding, prepare, divided, str(path))
    module = mark(wiring.module(feeding), source.name, device)
    doubt = refuse_near_chance(str(path), module, None if prepare else wiring.module, feeding, divided)
    origin, checkpoints = _origin(path, opened, feeding, own, said_by, wiring.order), {}
    recipe, why = recipe_of(source.name, opened.facts)
    known = "recipe" in opened.facts and not why
    origin["recipe"] = "the file's" if known else "unknown: the data set's stands in"
    origin["notes"] += [note for note in (why, doubt) if note]
    if early := early_file(brought, values, file, opened):
        at, said = early
        trusted = said == "option"  # --trust-* is for what the command line names
        origin["early"] = {"file": at.name, "sha256": _digest(at), "from": said}
        other = opening(
            at, trust_pickle=brought.trust_pickle and trusted, trust_lambda=brought.trust_lambda and trusted
        )
        found = wire(
            _at_logits(other, feeding, prepare, source, str(at)), feeding, prepare, divided, str(at)
        ).module(feeding)
        found = mark(found, source.name, device)
        checkpoints["early"] = early_state(at, module, found)
    name = f"{dataset if environment else source.name}-{brought.name or case_name(path)}"
    subject = Subject(name, module, divided, recipe, trained_on, origin, checkpoints)
    first = subject if environment is None else in_environment(subject, environment)
    return UserModel(first, wiring.way_back(module), environment, division, fixed)


def _at_logits(
    opened: ModelFile, feeding: InputSpec, prepare: Prepare | None, source: Source, what: str
) -> ModelFile:
    """The opened file cut before a softmax that its module or code ends in, detected from its answers
    to a few images, fed as it is.
    """
    images = source.train.images(slice(0, PROBED)).cpu()
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))

    def answers(module: nn.Module) -> object:
        return with_adapter(module, feeding, opened, shape, prepare=prepare)(images)

    try:
        answers(opened.module)
    except Exception:  # what a user's network raises on these images is said where it is wired to them
        return opened
    return at_logits(opened, answers, what)


def _named(values: Mapping[str, Any], file: str) -> str | None:
    """The architecture of a TOML file.

    UsageError if it is code: a file that came with a model must not say what is run.
    """
    found = values.get("net_arch")
    if is_own_code(found):
        raise UsageError(
            f"{file} names code, {found}, and code is run only when the command line names it: "
            f"give --net_arch {found}"
        )
    return found


def _architecture(
    own: OwnCode | None,
    net_arch: str | None,
    depth: int | None,
    dataset: str,
    classes: int,
    shape: tuple[int, int, int],
) -> Callable[[Mapping[str, Tensor]], nn.Module]:
    """Tensors of the file -> the network with them: the user's code, a registered architecture, or
    the one that the shapes tell.
    """
    if own is not None:
        return lambda tensors: own.load(tensors, classes)
    if net_arch is None or (net_arch == "resnet" and depth is None):
        return lambda tensors: recognised(tensors, shape=shape)
    name = model_name(net_arch, depth)

    def build(tensors: Mapping[str, Tensor]) -> nn.Module:
        stem = (
            next((len(v) for k, v in tensors.items() if k.endswith("conv1.weight")), 0)
            if name.startswith("resnet")
            else 0
        )
        usual = 16 if name.partition("w")[0] in ("resnet20", "resnet32", "resnet44", "resnet56") else 64
        width = f"w{stem}" if stem and "w" not in name and stem != usual else ""
        special = f"{dataset}/{name}"
        return recognised(tensors, special if special in MODELS.names() else name + width, shape)

    return build


def _class_names(opened: ModelFile, classes: tuple[str, ...]) -> InputSpec:
    """The order of the classes, where a checkpoint keeps their names and they are the data set's."""
    for key in ("classes", "class_names", "labels"):
        found = opened.facts.get(key)
        if (
            isinstance(found, list | tuple)
            and all(isinstance(c, str) for c in found)
            and sorted(found) == sorted(classes)
        ):
            return InputSpec(classes=tuple(found), origins={"classes": f"{key} in the checkpoint"})
    return InputSpec()


def _completed(feeding: InputSpec, opened: ModelFile, own: OwnCode | None) -> InputSpec:
    if own is None or own.preprocess is None:
        return completed(feeding, opened)
    given = [k for k in ("input_range", "mean", "std", "colours") if getattr(feeding, k) is not None]
    if given:
        raise UsageError(
            f"{own.text} brings its own preprocess, and {given[0]} is given too; accepted: one of both"
        )
    return replace(
        feeding,
        input_range=(0.0, 1.0),
        origins={**feeding.origins, "input_range": f"preprocess of {own.text}"},
    )


def _training_data(
    brought: ModelSource, values: Mapping[str, Any], file: str, opened: ModelFile
) -> tuple[str, str]:
    """What the network was trained on, and who says so."""
    for value, origin in (
        (brought.trained_on, "option"),
        (values.get("trained_on"), file),
        (opened.facts.get("trained_on"), "the checkpoint"),
    ):
        if isinstance(value, str) and value:
            return _training_words(value, opened.facts, origin), origin
    return "official train", "default for a file that is brought"


def _training_words(text: str, facts: Mapping[str, Any], origin: str) -> str:
    """The text; of a file of benchmark version 1, which had one split, the words for that.

    UsageError for a split that names no seed.
    """
    if text != "split":
        return text
    if str(digests_of(facts).get("split_version")) == "1":
        return "split of version 1"
    raise UsageError(
        f"trained_on={text!r} ({origin}) does not name the seed of the split; accepted: {ACCEPTED}"
    )


def _fixed(value: Any, path: Path) -> int | None:
    """The seed whose division a repair of this file has used. UsageError for anything that is no seed."""
    if value is not None and (type(value) is not int or value < 0):
        raise UsageError(f"{path}: divided_by is {value!r}; accepted: the seed of the repair, 0 or above")
    return value


def _origin(
    path: Path,
    opened: ModelFile,
    feeding: InputSpec,
    own: OwnCode | None,
    said_by: str,
    order: tuple[int, ...] | None,
) -> dict[str, Any]:
    """What the record keeps of the file and of its feeding (JSON values)."""
    values = {k: getattr(feeding, k) for k in FIELDS if getattr(feeding, k) is not None}
    found: dict[str, Any] = {
        "kind": "brought",
        "file": path.name,
        "format": opened.kind,
        "sha256": _digest(path),
        "feeding": {
            k: {"value": list(v) if isinstance(v, tuple) else v, "from": feeding.origins.get(k, "stated")}
            for k, v in values.items()
        },
        "trained_on_from": said_by,
        "notes": list(opened.notes),
    }
    if opened.feed is not None:
        found["scaling_in_file"] = asdict(opened.feed)
    if opened.fidelity is not None:
        found["fidelity"] = opened.fidelity.facts()
    if own is not None:
        found["notes"].append(f"the code of {own.text} was run, named by --net_arch")
        found["architecture"] = own.text
        found |= {"code": _digest(own.file)} if own.file is not None else {}
    if order is not None:
        found["outputs"] = list(order)
    return found


def _digest(path: Path) -> str:
    """Of the file, or of a folder's files."""
    return of_files([p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path])


def user_inputs(subject: Subject, failing: str | None, keep: str | None) -> tuple[Split | None, Split | None]:
    """Returns `--failing` and `--keep` on the subject's device, for pipeline.prepare; None if not
    given.

    The labels of `keep` do not count: its answers are the subject's own. UsageError if a wanted
    label is what the subject says already.
    """
    dataset, device = subject.dataset, subject.dataset.validation.x.device
    wrong = read_inputs(failing, dataset.classes, dataset.shape).to(device) if failing else None
    kept = read_inputs(keep, dataset.classes, dataset.shape, labelled=False).to(device) if keep else None
    if wrong is not None:
        already = int((logits_of(subject.module, wrong.x).argmax(1) == wrong.y).sum())
        if already:
            raise UsageError(
                f"--failing {failing}: the model already predicts {already} of {len(wrong)} wanted "
                f"labels; accepted: inputs that it gets wrong"
            )
    return wrong, kept
