"""A user's network between the data set's images and the data set's order of classes, and the way
back to the user's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported, UsageError, one_line
from airepair.evaluation.exam import logits_of
from airepair.formats.fidelity import Fidelity
from airepair.formats.model_file import ModelFile
from airepair.models.input_adapter import InputAdapter
from airepair.models.layers import Site, final_site
from airepair.models.layouts import written
from airepair.subjects.user_model.input_spec import InputSpec
from airepair.subjects.user_model.normalisation import with_adapter
from airepair.types import Dataset


@dataclass(frozen=True, eq=False)
class Wiring:
    """`net` is the file's network with its outputs in the data set's order of classes, where its last
    layer could be put in that order.

    `site` is that layer then, None if nothing was moved; where it could not be, `order` is put
    behind the network instead.
    """

    net: nn.Module
    opened: ModelFile
    prepare: Callable[[Tensor], Tensor] | None
    order: tuple[int, ...] | None
    site: Site | None
    shape: tuple[int, int, int]

    def module(self, feeding: InputSpec) -> nn.Module:
        """Returns the network fed that way, all of it on the network's device."""
        order = None if self.site else self.order
        found = with_adapter(self.net, feeding, self.opened, self.shape, prepare=self.prepare, order=order)
        weight = next(self.net.parameters(), None)
        return found if weight is None else found.to(weight.device)

    def way_back(self, module: nn.Module) -> ModelFile:
        """Returns an ModelFile of `module` whose writer takes the feeding off and puts the outputs
        back in the file's order.
        """

        def writer(repaired: nn.Module, out: Path) -> Fidelity | None:
            plain = copy.deepcopy(module)
            plain.load_state_dict(
                repaired.state_dict()
            )  # whatever class a method gave it, its weights are those of `module`
            net = plain.net if isinstance(plain, InputAdapter) and module is not self.net else plain
            if self.site is not None and self.order is not None:
                _arrange(self.site.layer(net), sorted(range(len(self.order)), key=self.order.__getitem__))
            return self.opened.write(net.cpu(), out)

        prefix = "" if module is self.net else "net."
        return replace(
            self.opened,
            module=module,
            writer=writer,
            layers={prefix + k: v for k, v in self.opened.layers.items()},
        )


def wire(
    opened: ModelFile,
    feeding: InputSpec,
    prepare: Callable[[Tensor], Tensor] | None,
    data: Dataset,
    what: str,
) -> Wiring:
    """Returns the wiring of a network to a data set (whose device it gets).

    UsageError, one line, where images or classes do not fit.
    """
    order = order_of(feeding.classes, data, feeding.origins.get("classes", ""))
    plain = Wiring(
        copy.deepcopy(opened.module).to(data.validation.x.device), opened, prepare, None, None, data.shape
    )
    module, images = plain.module(feeding), data.validation.images(slice(0, 2))
    check_answers(module, images, data, what)
    if order is None:
        return plain
    try:
        site = final_site(module, images)
    except Unsupported:  # something runs behind the last layer
        return replace(plain, order=order)
    site = replace(site, name=site.name if module is plain.net else site.name.removeprefix("net."))
    _arrange(site.layer(plain.net), order)
    return replace(plain, order=order, site=site)


def check_answers(module: nn.Module, images: Tensor, data: Dataset, what: str) -> None:
    """Raises UsageError if the network does not answer images of the data set with finite logits, one
    for each class.
    """
    found = tuple(finite_logits(module, images, data.name, what).shape)
    accepted = (len(images), len(data.classes))
    if found != accepted:
        raise UsageError(
            f"{what} answers {len(images)} images with shape {found}; accepted for {data.name}: "
            f"logits {accepted}"
        )


def finite_logits(module: nn.Module, images: Tensor, name: str, what: str) -> Tensor:
    """Returns what the network answers images of the data set of that name with, N x K. UsageError if
    it raises, or answers anything but finite logits.
    """
    try:
        logits = logits_of(module, images)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{what} raises on images of {name}, {written(tuple(images.shape[1:]))}: {one_line(error, 200)}"
        ) from error
    if not bool(torch.isfinite(logits).all()):
        raise UsageError(f"{what} answers {name} with numbers that are not finite; accepted: finite logits")
    return logits


def order_of(classes: tuple[str, ...] | None, data: Dataset, origin: str) -> tuple[int, ...] | None:
    """Returns the output of the network for each class of the data set; None if the order is the
    same. UsageError if the names are others.
    """
    if classes is None:
        return None
    if len(classes) != len(data.classes):
        raise UsageError(
            f"classes ({origin}): {len(classes)} names, {data.name} has {len(data.classes)} classes; "
            f"accepted: one name per class"
        )
    keys = [_key(c) for c in classes]
    expected = [_key(c) for c in data.classes]
    strange = [c for c, k in zip(classes, keys, strict=True) if k not in expected or keys.count(k) > 1]
    if strange:
        listed = ", ".join(data.classes[:12]) + (", ..." if len(data.classes) > 12 else "")
        raise UsageError(
            f"classes ({origin}): {strange[0]!r} is not a class of {data.name}, or appears twice; "
            f"accepted, in any order: {listed}"
        )
    order = tuple(keys.index(k) for k in expected)
    return None if order == tuple(range(len(order))) else order


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


@torch.no_grad()
def _arrange(layer: nn.Linear | nn.Conv2d, order: list[int] | tuple[int, ...]) -> None:
    """The layer's outputs in another order, in place."""
    index = torch.tensor(list(order), device=layer.weight.device)
    layer.weight.copy_(layer.weight[index].clone())
    if layer.bias is not None:
        layer.bias.copy_(layer.bias[index].clone())
