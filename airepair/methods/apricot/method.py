"""apricot: adapts the weights towards those of submodels (Zhang and Chan, "Apricot: A weight-adaptation
approach to fixing deep learning models", ASE 2019).

Idea: submodels of the same architecture, trained on parts of the training data, disagree on a
failing case; move the weights towards the mean of those that are right, or away from the mean of
those that are wrong (airepair/methods/apricot/adjustment.py has the three strategies). After each
block of failing cases the result is kept if validation accuracy is strictly better, and then
trained further; else it is rolled back.

Changes all weights and batch-norm statistics (they move with the weights; integer buffers stay).
Refuses a task without training data. Failing cases come from train; where train has none, from
`failing`, and the record says which. Submodels start from the subject's early checkpoint, so that
they share its basin and averaging makes sense; where a user brings none, from the subject itself,
trained on at the recipe's full learning rate (noted: on digits they then gained far less). They
follow the subject's recipe on sliding windows of train.

Defaults (the authors' settings): 20 submodels, windows of a quarter of train, 20 % of the subject's
epochs, strategy 2 ("the best in the conference version", says their code), rate .005, blocks of 20,
20 further epochs. A block is 20 failing *cases*: 20 indices hold about four. `plus` (Apricot+): 3
loops over shuffled cases, rate .0005, 3 further epochs. `lite`: one random right and one random
wrong submodel instead of means, rate .01, no further training. `proportional` weighs the two means
by their shares (coinse/arachne's re-implementation, with the sign of the paper). `sets` "random"
and "swapped" are controls: validation alone does not notice a wrong sign.

A budget must be known before the repair, so further training ends when it has used as many images
as the submodels did (ours: the authors' code trains after every improvement); later blocks that
improve are kept without it.

The adjustment before the first further training is kept as the phase "adjustment", and after it as
"further training": plain training is no part of the idea, and the note says what each gained on
validation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair import paths
from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of, sit
from airepair.methods.apricot import submodels as training
from airepair.methods.apricot.adjustment import combinations, one_each, regrouped
from airepair.methods.apricot.stack import Stack, moved, put
from airepair.methods.apricot.windows import windows
from airepair.options import Space, option
from airepair.training.best_state import CrossEntropy, Watch, choice_of, fit, snapshot
from airepair.training.loop import images_of
from airepair.types import Category, Source, Split, Task

# rate, epochs of further training, loops over the cases (github.com/DemoAuguste/ApricotTOSEM)
VARIANTS = {"original": (0.005, 20, 1), "plus": (0.0005, 3, 3), "lite": (0.01, 0, 1)}

NO_TRAIN = "apricot's submodels need training data, and train is empty"
AHEAD = 10  # models made in one product; more are wasted where a block is kept
FLOATS = 2**27  # of those models together: half a gigabyte


@dataclass(frozen=True)
class Apricot:
    """Adjusts the weights by submodels, block by block, with roll-back on validation."""

    name: ClassVar[str] = "apricot"
    category: ClassVar[Category] = "direct weight modification"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Zhang and Chan, ASE 2019"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "random_sets": {"sets": "random"},
        "swapped_sets": {"sets": "swapped"},
    }

    submodels: int = option(20, "how many submodels", low=2, high=1000, source="authors' code")
    share: float = option(
        0.25, "part of train in a submodel's window", low=0.01, high=1.0, source="authors' code"
    )
    submodel_epochs: int | None = option(
        None, "epochs of a submodel; none: 20 % of the subject's", low=1, source="authors' code"
    )
    strategy: int = option(
        2, "1, 2 or 3", low=1, high=3, source="authors' code", tune=Space(choices=(1, 2, 3))
    )
    rate: float | None = option(
        None,
        "step of an adjustment; none: the variant's",
        low=0.0,
        high=1.0,
        source="authors' code",
        tune=Space(1e-4, 0.05, log=True),
    )
    block: int = option(
        20,
        "failing cases between two validations",
        low=1,
        source="authors' code",
        tune=Space(choices=(10, 20, 40)),
    )
    further_epochs: int | None = option(
        None, "epochs of training after an improvement; none: the variant's", low=0, source="authors' code"
    )
    variant: Literal["original", "plus", "lite"] = option(
        "original", "the published variant", source="ASE 2019; TOSEM code"
    )
    proportional: bool = option(
        False, "weigh both means by their shares of the submodels", source="coinse/arachne"
    )
    sets: Literal["given", "random", "swapped"] = option(
        "given", "which submodels count as right; random and swapped are controls", source="control"
    )
    way: Literal["auto", "together", "streams", "one by one"] = option(
        "auto",
        "how the submodels train; auto: what is fastest here (airepair/methods/apricot/schedule.py)",
        source="this project",
    )
    cache: bool = option(
        True, "keep trained submodels by content in the cache folder (AIREPAIR_CACHE)", source="this project"
    )

    def budget(self, task: Task) -> int:
        """Returns the submodels' images, and as many again for the further training, or one such
        training where that is more.
        """
        if not len(task.train):
            raise Unsupported(NO_TRAIN)
        submodels = self._submodel_images(task)
        further = self._settings[1] * len(task.labelled)
        return submodels + further * max(1, submodels // further) if further else submodels

    def repair(self, task: Task) -> nn.Module:
        """Returns the adjusted module."""
        if not len(task.failing):
            return task.module
        if not len(task.train):
            raise Unsupported(NO_TRAIN)
        cases, origin = failing_cases(task)
        task.note(f"apricot: {len(cases)} failing cases from {origin}")
        start = task.checkpoints.get("early")
        if start is None:
            task.note("apricot: no early checkpoint; the submodels start from the subject's own weights")
        plan = self._plan(task, task.module if start is None else start)
        stack = training.train(task, plan, paths.cache() / "submodels" if self.cache else None)
        right = regrouped(correctness(task, stack, cases), self.sets, task.generator(3))
        self._adjust(task, stack, right)
        return task.module

    @property
    def _settings(self) -> tuple[float, int, int]:
        """Rate, epochs of further training and loops: the given ones, else the variant's."""
        rate, further, loops = VARIANTS[self.variant]
        return (
            rate if self.rate is None else self.rate,
            further if self.further_epochs is None else self.further_epochs,
            loops,
        )

    def _submodel_images(self, task: Task) -> int:
        plan = self._plan(task, task.module)
        recipe = plan.recipe
        return sum(
            recipe.epochs * images_of(part.stop - part.start, recipe.batch_size) for part in plan.windows
        )

    def _plan(self, task: Task, start: nn.Module) -> training.Plan:
        epochs = self.submodel_epochs or max(1, round(0.2 * task.recipe.epochs))
        parts = windows(len(task.train), self.submodels, self.share)
        return training.Plan(start, parts, replace(task.recipe, epochs=epochs), self.way)

    def _blocks(self, right: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The rows of each block of failing cases, in all loops; an empty block does not exist."""
        for _ in range(self._settings[2]):
            order = (
                torch.randperm(len(right), generator=generator)
                if self.variant == "plus"
                else torch.arange(len(right))
            )
            for part in order.split(self.block):
                rows = right.cpu()[part]
                yield one_each(rows, generator) if self.variant == "lite" else rows

    def _adjust(self, task: Task, stack: Stack, right: Tensor) -> None:
        """One affine combination a block; kept and trained further if validation improves, rolled back
        otherwise.

        The models of the next blocks are made in one product; the first that is kept makes the others void.
        """
        rate, further, _ = self._settings
        left = max(
            1, self._submodel_images(task) // max(1, further * len(task.labelled))
        )  # trainings that the budget allows
        own, others = combinations(
            list(self._blocks(right, task.generator(1))), self.strategy, rate, self.proportional
        )
        ahead = max(1, min(AHEAD, FLOATS // sum(rows[0].numel() for rows in stack.values())))
        task.module.eval()
        choice = choice_of(task)
        best, state = choice.standing(task.module)[0], snapshot(task.module)
        done, kept, gained = 0, 0, {"adjustment": 0.0, "further training": 0.0}
        while done < len(own):
            models = moved(task.module, own[done : done + ahead], others[done : done + ahead], stack)
            for k in range(len(own[done : done + ahead])):
                put(task.module, models, k)
                done += 1
                (standing, _), exam = choice.exam(task.module)
                task.progress("adjustment", done, len(own), exam.loss)
                if standing > best:
                    break
            else:
                task.module.load_state_dict(state)
                continue
            kept += 1
            gained["adjustment"] += standing - best
            best = standing
            if kept == 1:
                task.keep("adjustment", task.module)
            if further and left:
                left -= 1
                trained = self._further(task, further, done)
                gained["further training"] += trained - best
                best = trained
                if kept == 1:
                    task.keep("further training", task.module)
            state = snapshot(task.module)
        if further and not left:
            task.note(
                "apricot: further training ended when it had used as many images as the submodels (its "
                "declared budget)"
            )
        points = ", ".join(f"{100 * gain:.2f} points by {what}" for what, gain in gained.items())
        task.note(f"apricot: {kept} of {len(own)} blocks improved validation; gained there: {points}")

    def _further(self, task: Task, epochs: int, salt: int) -> float:
        """Trains on with the subject's recipe; the module keeps its best state, whose standing
        (validation accuracy) is returned.
        """
        watch = Watch(progress=task.progress)
        recipe, generator = replace(task.recipe, epochs=epochs), task.generator(1000 + salt)
        loss = CrossEntropy(recipe.label_smoothing)
        fit(
            task.module,
            task.labelled,
            choice_of(task),
            recipe,
            generator,
            phase="further training",
            loss=loss,
            watch=watch,
        )
        return choice_of(task).standing(task.module)[0]


def failing_cases(task: Task) -> tuple[Split, str]:
    """Returns the cases to adjust for, and where they come from: train's own, or the repair split's
    where train has none.
    """
    wrong = ~sit(task.module, task.train, quick=True).right.to(task.device)
    return (
        (task.train.select(wrong), "train")
        if bool(wrong.any())
        else (task.failing, "the repair split (train has none)")
    )


def correctness(task: Task, stack: Stack, cases: Split) -> Tensor:
    """Which submodel is right on which case (cases x K, booleans)."""
    module, columns = copy.deepcopy(task.module), []
    for k in range(len(next(iter(stack.values())))):
        put(module, stack, k)
        columns.append(logits_of(module, cases.x, quick=True).argmax(1) == cases.y)
    return torch.stack(columns, 1)
