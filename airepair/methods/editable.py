"""editable: few-step edits of one block (Sinitsin et al., Editable neural networks, ICLR 2020).

Idea: an edit takes up to ten RMSProp steps on one block until the edited inputs are right by a
margin, with a penalty on how the answers to a rehearsal batch move (KL divergence), and is taken
back if it does not get there. The paper trains a network so that such edits work and do little
damage; here the editor alone is the method, run over the failing inputs in groups, and `train=true`
puts the editable training before it:

    L = cross-entropy(theta) + c_edit * l_e(theta') + c_loc * CE(softmax f_theta, f_theta') over the
    batch, theta' = Edit(theta; x_e, y_e),

differentiated through the editor, one random training image with a random label a step.
Edit loss: l_e = max(0, margin + max_{j != y} log p_j - log p_y).

The editor changes one block (by default the last one before the output layer; the paper: layer3 of
a ResNet-18, editor lr 1e-3, beta .5); editable training changes everything. Rehearsal: training
images, or if there are none the passing ones, always with the model's own answers. Of the states
after each group the best on validation remains, the start included. Refuses a network without
Linear or Conv2d, and `train=true` without train.

Defaults: lr, beta, ten steps, c_edit = c_loc = .01 and batch norm in evaluation mode inside the editor are
the paper's and its code's (github.com/xtinkt/editable). The paper measures each edit from the original
weights; here edits accumulate, and `group` inputs may share one. Its learnt beta and gradient clipping are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from airepair.errors import OutOfBudget, Unsupported, UsageError
from airepair.evaluation.exam import evaluating, logits_of
from airepair.host.arithmetic.exact import root
from airepair.models.layers import runs, weighted
from airepair.options import Space, option
from airepair.training.best_state import Best, Watch, choice_of, cross_entropy, fit
from airepair.types import Category, Recipe, Source, Task

Weights = dict[str, Tensor]
TRAIN_BATCH = 64  # images a step of editable training


@dataclass(frozen=True)
class Editable:
    """Edits the failing inputs, group by group, in one block."""

    name: ClassVar[str] = "editable"
    category: ClassVar[Category] = "direct weight modification"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Sinitsin, Plokhotnyuk, Pyrkin, Popov, Babenko: Editable neural networks, ICLR 2020"
    )
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"no_locality": {"locality": 0.0}}

    block: str = option(
        "auto", "name of the block to edit, or auto: the last one before the output layer", source="ICLR 2020"
    )
    group: int = option(
        1, "failing inputs to an edit", low=1, source="ICLR 2020", tune=Space(choices=(1, 4, 8, 16))
    )
    steps: int = option(10, "maximum number of steps of an edit", low=1, source="ICLR 2020")
    lr: float = option(
        1e-3,
        "learning rate of the editor's RMSProp",
        low=0.0,
        source="authors' code",
        tune=Space(1e-4, 1e-2, log=True),
    )
    beta: float = option(
        0.5, "decay of RMSProp's squared gradients", low=0.0, high=0.999, source="authors' code"
    )
    margin: float = option(
        0.0, "log-probability margin at which an edit is done", low=0.0, source="ICLR 2020"
    )
    locality: float = option(
        1.0,
        "weight of the KL divergence on the rehearsal batch",
        low=0.0,
        source="open",
        tune=Space(0.01, 100, log=True),
    )
    rehearsal: int = option(64, "images of a rehearsal batch", low=1, source="budget")
    train: bool = option(False, "editable training before the edits", source="ICLR 2020")
    epochs: int = option(5, "train: passes over train and failing", low=1, source="budget")
    train_lr: float = option(
        1e-4, "train: learning rate of Adam", low=0.0, source="open", tune=Space(1e-5, 1e-3, log=True)
    )
    c_edit: float = option(0.01, "train: weight of the edit loss", low=0.0, source="authors' code")
    c_loc: float = option(0.01, "train: weight of the locality loss", low=0.0, source="authors' code")

    def budget(self, task: Task) -> int:
        """Every edit with all its steps, each on the edited inputs and a rehearsal batch; and the
        editable training.
        """
        edits = -(-len(task.failing) // self.group) * self.steps * (self.group + self.rehearsal)
        if not self.train:
            return edits
        n = len(task.labelled)
        return edits + self.epochs * (2 * n + -(-n // TRAIN_BATCH) * (self.steps + 1))

    def repair(self, task: Task) -> nn.Module:
        """Returns the edited module."""
        if not len(task.failing):
            return task.module
        names = block_of(task.module, self.block, task.failing.images(slice(2)))
        if self.train:
            self._train(task, names)
            task.keep("editable training", task.module)
        memory = task.train if len(task.train) else task.passing
        answers, generator = (
            logits_of(task.module, memory.x).log_softmax(1) if len(memory) else None,
            task.generator(1),
        )
        best, accepted = Best(task.module, choice_of(task)), 0
        order = torch.randperm(len(task.failing), generator=generator).split(self.group)
        with suppress(OutOfBudget):
            for number, index in enumerate(order, 1):
                data = task.failing.select(index.to(task.device))
                weights = {n: task.module.get_parameter(n) for n in names}
                near = (
                    torch.randint(len(memory), (self.rehearsal,), generator=generator).to(task.device)
                    if answers is not None
                    else None
                )
                kept = None if near is None or answers is None else (memory.images(near), answers[near])
                edited, done = self.edit(task.module, weights, data.images(), data.y, kept)
                task.progress("editing", number, len(order), float(number - accepted))
                if done:
                    accepted += 1
                    load(task.module, edited)
                    best.offer()
        best.restore()
        task.note(
            f"{accepted} of {len(order)} edits of up to {self.group} inputs were accepted, "
            f"in {', '.join(names)}"
        )
        return task.module.eval()

    def edit(
        self,
        module: nn.Module,
        start: Mapping[str, Tensor],
        x: Tensor,
        y: Tensor,
        kept: tuple[Tensor, Tensor] | None,
        *,
        differentiable: bool = False,
    ) -> tuple[Weights, bool]:
        """Returns the block's weights after the edit of `x` to `y`, and whether all of `x` is right
        by the margin.

        `kept`: rehearsal images and the log-probabilities that they should keep.
        """
        weights = (
            dict(start) if differentiable else {k: v.detach().requires_grad_() for k, v in start.items()}
        )
        square = {k: torch.zeros_like(v) for k, v in weights.items()}
        both = x if kept is None else torch.cat([x, kept[0]])
        with evaluating(module):
            for _ in range(self.steps):
                logits: Tensor = functional_call(module, weights, (both,))
                wrong = edit_loss(logits[: len(x)], y, self.margin)
                if (
                    not differentiable
                    and bool((wrong <= 0).all())
                    and bool((logits[: len(x)].argmax(1) == y).all())
                ):
                    return {k: v.detach() for k, v in weights.items()}, True
                loss = wrong.sum() / len(x)
                if kept is not None and self.locality:
                    moved = nn.functional.kl_div(
                        logits[len(x) :].log_softmax(1), kept[1], log_target=True, reduction="batchmean"
                    )
                    loss = loss + self.locality * moved
                slopes = torch.autograd.grad(
                    loss, list(weights.values()), create_graph=differentiable, allow_unused=True
                )
                weights = dict(
                    zip(
                        weights,
                        (
                            self._step(w, s, square, k, differentiable)
                            for (k, w), s in zip(weights.items(), slopes, strict=True)
                        ),
                        strict=True,
                    )
                )
            with torch.no_grad():
                logits = functional_call(module, weights, (x,))
        done = bool((edit_loss(logits, y, self.margin) <= 0).all()) and bool((logits.argmax(1) == y).all())
        return (weights if differentiable else {k: v.detach() for k, v in weights.items()}), done

    def _step(
        self, weight: Tensor, slope: Tensor | None, square: Weights, name: str, differentiable: bool
    ) -> Tensor:
        """One RMSProp step; the root has its epsilon inside, so that its own derivative stays finite at 0."""
        if slope is None:
            return weight
        square[name] = self.beta * square[name] + (1 - self.beta) * slope * slope
        new = weight - self.lr * slope / root(square[name] + 1e-16)
        return new if differentiable else new.detach().requires_grad_()

    def _train(self, task: Task, names: list[str]) -> None:
        """Editable training of the whole module; the best state on validation remains."""
        if not len(task.train):
            raise Unsupported(
                "train=true trains on the subject's training data, and there is none; use train=false"
            )
        generator = task.generator(2)

        def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            value = cross_entropy(module, x, y)
            pick = int(torch.randint(len(x), (), generator=generator))
            label = torch.randint(len(task.classes), (1,), generator=generator).to(y)
            weights = {n: module.get_parameter(n) for n in names}
            edited, _ = self.edit(module, weights, x[pick : pick + 1], label, None, differentiable=True)
            with evaluating(module):
                after: Tensor = functional_call(module, edited, (x,))
                wanted = edit_loss(
                    functional_call(module, edited, (x[pick : pick + 1],)), label, self.margin
                ).mean()
                with torch.no_grad():
                    before = module(x).softmax(1)
            local = -(before * after.log_softmax(1)).sum(1).mean()
            total: Tensor = value + self.c_edit * wanted + self.c_loc * local
            return total

        recipe = Recipe(
            "adam",
            self.train_lr,
            weight_decay=0.0,
            batch_size=TRAIN_BATCH,
            epochs=self.epochs,
            schedule="constant",
            augment=task.recipe.augment,
        )
        fit(
            task.module,
            task.labelled,
            choice_of(task),
            recipe,
            task.generator(3),
            phase="editable training",
            loss=loss,
            watch=Watch(progress=task.progress),
        )


def edit_loss(logits: Tensor, y: Tensor, margin: float) -> Tensor:
    """Returns max(0, margin + max_{j != y} log p_j - log p_y) for each input (N)."""
    own = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return (margin + other - own).clamp_min(0)


def block_of(module: nn.Module, name: str, x: Tensor) -> list[str]:
    """Returns the names of the block's parameters.

    "auto": of the top-level blocks with weighted layers the last but one, or the only one.
    """
    layers = [run.name for run in weighted(runs(module, x))]
    if not layers:
        raise Unsupported("no Linear or Conv2d layer to edit")
    if name == "auto":
        name = _before_last(layers)
    known = dict(module.named_modules())
    if name not in known or not list(known[name].parameters()):
        raise UsageError(
            f"editable.block={name!r} is not a block with parameters; accepted: auto, "
            f"{', '.join(dict.fromkeys(_tops(layers)))}"
        )
    return [f"{name}.{n}" if name else n for n, _ in known[name].named_parameters()]


def _before_last(layers: list[str]) -> str:
    shared = layers[0].split(".")[:-1]
    # Wrappers around everything ("net.layer3.0.conv1" and "net.fc") are looked through.
    while shared and not all(n.split(".")[: len(shared)] == shared for n in layers):
        shared = shared[:-1]
    tops = list(dict.fromkeys(".".join(n.split(".")[: len(shared) + 1]) for n in layers))
    return tops[-2] if len(tops) > 1 else tops[-1]


def _tops(layers: list[str]) -> list[str]:
    return [part for n in layers for part in (n.split(".")[0], n)]


@torch.no_grad()
def load(module: nn.Module, weights: Weights) -> None:
    """Writes the weights into the module, in place."""
    for name, value in weights.items():
        module.get_parameter(name).copy_(value)
