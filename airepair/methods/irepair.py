"""irepair: repair by gradients on the weights that matter to the failures alone (Henriksen, Leofante and Lomuscio, I-REPAIR, SAC 2022).

Idea: a weight may move only if its influence on the loss of the still failing inputs is at least gamma times its influence on the outputs for
inputs that are right; these weights follow RMSprop steps until every failing input is right. gamma = 0 is plain fine-tuning on the same few
inputs; as gamma grows only weights without any influence on the right inputs still move.

    influence on the failing ones = |d CE(S') / d w|       influence on the right ones = |d mean over G of sum |logit| / d w|
    w moves where (influence on S' + 1e-8) / (gamma * influence on G + 1e-8) >= 1,   the loss is CE over G and S

Changes parameters of any layer; batch norm stays in evaluation mode. G is a balanced draw of passing inputs, held to the answers that the
subject gives already: something not to break. Refuses a task without passing inputs. Stops at the first state with all of S right: there is
no selection on validation, the damage shows.

The failing inputs may be of any classes (published: of one). Defaults: the public code's 500 iterations and 1e-8, learning rate 1e-4 and 40
general inputs from the paper's MNIST runs; 32 points is the most the paper repairs at once; gamma .1 lies in the middle of the paper's .001..5.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from airepair.errors import OutOfBudget, Unsupported
from airepair.exam import evaluating, sit
from airepair.linear.points import choose_points
from airepair.options import Space, option
from airepair.types import Category, Split, Task

FLOOR = 1e-8  # of both influences, in the public code


@dataclass(frozen=True)
class IRepair:
    """Masked RMSprop until the chosen failing inputs are right."""

    name: ClassVar[str] = "irepair"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Henriksen et al., SAC 2022"

    gamma: float = option(0.1, "weight of the influence on right inputs", low=0.0, source="paper", tune=Space(1e-3, 5.0, log=True))
    lr: float = option(1e-4, "learning rate of RMSprop", low=0.0, source="paper", tune=Space(1e-5, 1e-2, log=True))
    iterations: int = option(500, "most iterations", low=1, source="public code")
    points: int | None = option(32, "failing inputs to repair, drawn by the seed; none: all", low=1, source="paper")
    general: int = option(40, "passing inputs to hold, balanced over classes", low=1, source="paper", tune=Space(10, 400, log=True))

    def repair(self, task: Task) -> nn.Module:
        """The module when all chosen points are right, or after the last iteration."""
        if not len(task.failing):
            return task.module
        if not len(task.passing):
            raise Unsupported("there is no passing input whose outputs the influence could be weighed against")
        module, specific = task.module, choose_points(task, self.points)
        general = balanced(task.passing, self.general, task.generator(2))
        x, y = general.images(), general.y
        sx, sy = specific.images(), specific.y
        parameters = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.RMSprop(parameters, lr=self.lr)
        number = 0
        with evaluating(module), suppress(OutOfBudget):
            for number in range(1, self.iterations + 1):
                logits = module(sx)
                wrong = logits.argmax(1) != sy
                if not wrong.any():
                    task.note(f"all {len(sy)} points right after {number - 1} iterations")
                    return module
                loss = nn.functional.cross_entropy(logits[wrong], sy[wrong])
                on_specific = gradients(loss, parameters)
                on_general = gradients(module(x).abs().sum(1).mean(), parameters)
                value = nn.functional.cross_entropy(module(torch.cat([x, sx])), torch.cat([y, sy]))
                masked_step(optimizer, parameters, value, [mask(s, g, self.gamma) for s, g in zip(on_specific, on_general, strict=True)])
                task.progress("masked steps", number, self.iterations, float(value.detach()))
        right = int(sit(module, specific).right.sum())
        task.note(f"{right} of {len(sy)} points right when it stopped, in iteration {number} of {self.iterations}")
        return module


def mask(specific: Tensor, general: Tensor, gamma: float) -> Tensor:
    """Where a weight may move, from the absolute gradients of both influences."""
    return (specific.abs() + FLOOR) / (gamma * general.abs() + FLOOR) >= 1


def gradients(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """d value / d each parameter, zeros where there is no way."""
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def masked_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], value: Tensor, masks: list[Tensor]) -> None:
    """One optimiser step on the gradient of `value` times the masks."""
    for parameter, gradient, where in zip(parameters, gradients(value, parameters), masks, strict=True):
        parameter.grad = gradient * where
    optimizer.step()


def balanced(split: Split, most: int, generator: torch.Generator) -> Split:
    """Up to `most` of the inputs, drawn class by class in turn."""
    order = torch.randperm(len(split), generator=generator)
    y = split.y.cpu()[order]
    turn = torch.zeros(len(y), dtype=torch.int64)
    for k in y.unique():
        turn[y == k] = torch.arange(int((y == k).sum()))
    return split.select(order[turn.argsort(stable=True)[:most]].to(split.x.device))
