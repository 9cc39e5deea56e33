"""Trials that several processes share and that survive them: Optuna's journal file, and a lock around
who takes which trial.

Trial 0 is the default settings. A trial whose process has died is taken over by the next one that
asks. What trial n tries depends on the seed, on n and on the results known by then, so one process
that is stopped and started again makes the same trials.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock
from optuna import Study, create_study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from airepair.errors import UsageError
from airepair.host import digest

JOURNAL = "study.journal"


@dataclass(frozen=True)
class Claim:
    """It is a trial that this process is to run: its number, and what the search chose (trial 0
    runs the default settings instead).
    """

    number: int
    options: Mapping[str, Any]


class Numbered(BaseSampler):  # type: ignore[misc]
    """It is the tree-structured Parzen estimator with a generator of its own for each trial; trial
    0 gets `first`.
    """

    def __init__(self, seed: int, first: Mapping[str, Any]) -> None:
        self.seed, self.first = seed, first

    def _of(self, number: int) -> TPESampler:
        return TPESampler(seed=self.seed * 100_003 + number, n_startup_trials=5)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if trial.number == 0:
            return self.first[param_name]
        place = sorted(self.first).index(param_name)
        return self._of(trial.number * 101 + place).sample_independent(
            study, trial, param_name, param_distribution
        )


class Trials:
    """It holds the trials of one (data set, model, method) in a folder.

    `facts` must be the same for all: budget, seeds, profile, number of trials.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Mapping[str, BaseDistribution],
        first: Mapping[str, Any],
        facts: Mapping[str, Any],
        seed: int,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.space, self.most = name, dict(space), int(facts["trials"])
        self.lock = FileLock(folder / f"{JOURNAL}.claims")
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        with self.lock:
            self.study = create_study(
                storage=storage,
                study_name=name,
                sampler=Numbered(seed, first),
                direction="maximize",
                load_if_exists=True,
            )
            self._same(dict(facts), folder)

    def _same(self, facts: dict[str, Any], folder: Path) -> None:
        known = self.study.user_attrs.get("facts")
        if known is None:
            self.study.set_user_attr("facts", facts)
        elif {k: v for k, v in known.items() if k != "trials"} != {
            k: v for k, v in facts.items() if k != "trials"
        }:
            raise UsageError(
                f"{folder} holds trials of {self.name} with {json.dumps(known)}; accepted: "
                f"the same again, or another --out"
            )
        elif known["trials"] != facts["trials"]:
            self.study.set_user_attr("facts", facts)  # more trials of the same kind

    def claim(self) -> Claim | None:
        """Returns the next trial for this process; None when all are taken."""
        with self.lock:
            trials = self.study.get_trials(deepcopy=False)
            for old in trials:
                if old.state is TrialState.RUNNING and not _alive(old.user_attrs.get("worker")):
                    Trial(self.study, old._trial_id).set_user_attr("worker", me())
                    return Claim(old.number, old.params)
            if len(trials) >= self.most:
                return None
            trial = self.study.ask(self.space)
            trial.set_user_attr("worker", me())
            return Claim(trial.number, trial.params)

    def tell(self, number: int, value: float | None, reason: str = "") -> None:
        """Reports a trial's validation accuracy to the study, or that it failed (None)."""
        with self.lock:
            if reason:
                frozen = self.study.get_trials(deepcopy=False)[number]
                Trial(self.study, frozen._trial_id).set_user_attr("reason", reason)
            self.study.tell(
                number, value, state=TrialState.COMPLETE if value is not None else TrialState.FAIL
            )

    def finished(self) -> Sequence[FrozenTrial]:
        """Returns the trials that are over, by number."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]

    def best(self) -> FrozenTrial | None:
        """Returns the trial with the best validation accuracy, the earlier of two equal ones (so
        the defaults win a tie); None if all failed.
        """
        ran = [t for t in self.finished() if t.value is not None]
        return max(ran, key=lambda t: (t.value, -t.number), default=None)


def me() -> list[Any]:
    """Returns this process: machine (a digest, since the journal may be published), number, start."""
    return [_machine(), os.getpid(), psutil.Process().create_time()]


def _machine() -> str:
    return digest.of_text(socket.gethostname())[:12]


def _alive(worker: Any) -> bool:
    """Whether the process still runs; one on another machine counts as alive."""
    if not worker or worker[0] != _machine():
        return bool(worker)
    try:
        return bool(abs(psutil.Process(int(worker[1])).create_time() - float(worker[2])) < 1.0)
    except psutil.Error:
        return False
