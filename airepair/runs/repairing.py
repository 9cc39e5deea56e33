"""Repairs targets with methods, one cell after the other, through the same pipeline as the grid, into the folder of the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airepair.case import TUNED, Case, with_variant
from airepair.errors import AirepairError
from airepair.examiner import Examiner
from airepair.filing import file_again, file_before, file_outcome
from airepair.methods import build
from airepair.pipeline import Outcome, prepare, run
from airepair.prepared import Prepared
from airepair.records import Record
from airepair.runs.folder import RunFolder
from airepair.runs.repaired_file import write_models
from airepair.runs.show import Show
from airepair.runs.targets import Place, Target, skipped
from airepair.settings import Chosen, choose_options, is_tuned, tables
from airepair.types import Limit, Method
from airepair.untouched import checked, digests

if TYPE_CHECKING:
    from airepair.models.formats.opened import Opened
    from airepair.types import Subject


@dataclass(frozen=True)
class Wish:
    """What is asked of every target. `options`: method -> what the user gave; `fixed`: options of an earlier run, with their origins."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    place: Place
    options: Mapping[str, Mapping[str, str]]
    fixed: Mapping[str, Chosen]
    auto: bool = False
    limit: Limit = Limit()  # noqa: RUF009 (frozen)
    failing: str | None = None
    keep: str | None = None
    pgd: bool = False
    net_arch: str | None = None
    lenient: bool = False  # a target that cannot be loaded is left out with a line (--all)


def chosen_for(wish: Wish, target: Target, method: str) -> Chosen:
    """The options of a cell: the tables' (with --auto the tuned ones too) or an earlier run's, then what the user gave."""
    given = wish.options.get(method, {})
    if method in wish.fixed:
        fixed = wish.fixed[method]
        return Chosen({**fixed.options, **given}, {**fixed.origins, **dict.fromkeys(given, "given")})
    return choose_options(target.dataset, target.architecture, method, wish.place.profile(target.dataset), given, tables(wish.auto))


def case_of(wish: Wish, target: Target, dataset: str, method: str, seed: int) -> Case:
    """The cell's name, `METHOD[tuned]` where the tuned table has options for it."""
    tuned = wish.auto and is_tuned(target.dataset, target.architecture, method, wish.place.profile(target.dataset))
    return Case(dataset, target.model, with_variant(method, TUNED if tuned else ""), seed)


def untuned(wish: Wish, targets: Sequence[Target]) -> list[str]:
    """The methods that no table of tuned settings knows for these targets."""
    known = {m for m in wish.methods for t in targets if is_tuned(t.dataset, t.architecture, m, wish.place.profile(t.dataset))}
    return [m for m in wish.methods if m not in known]


@dataclass
class Run:
    """The cells of a run as they finish. `open_folder` makes the folder when the first cell is ready, so that bad input leaves nothing."""

    wish: Wish
    open_folder: Callable[[], RunFolder]
    show: Show
    records: list[Record] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    folder: RunFolder | None = None
    examiner: Examiner | None = None  # of the subject in hand: what one method's cell has examined, the next does not

    def repair(self, targets: Sequence[Target]) -> None:
        """Every target with every method and seed. UsageError from a target ends it, unless the wish is lenient."""
        built = [(t, {m: build(m, chosen_for(self.wish, t, m).options) for m in self.wish.methods}) for t in targets]
        total = sum(len(t.seeds or self.wish.seeds) for t in targets) * len(self.wish.methods)
        done = 0
        for target, methods in built:
            for seed in target.seeds or self.wish.seeds:
                self.show.begin(f"{target.name}-s{seed}: loading", done + 1, total)
                try:
                    subject, opened = target.load(seed, self.wish.place, self.show.progress)
                    self._say_subject(target, subject)
                    self.examiner = Examiner(subject.module)
                    for number, (name, method) in enumerate(methods.items(), done + 1):
                        self._cell(target, subject, opened, name, method, seed, (number, total))
                except AirepairError as error:
                    if not self.wish.lenient:
                        raise
                    self.left_out.append(skipped(target, error))
                    self.show.say(self.left_out[-1])
                done += len(methods)

    def _say_subject(self, target: Target, subject: Subject) -> None:
        data = subject.dataset
        sizes = ", ".join(f"{len(getattr(data, n)):,} {n}" for n in ("train", "repair", "validation", "test"))
        self.show.say(
            f"  {subject.name}: {sizes} images; trained on: {subject.trained_on}; profile {self.wish.place.profile(target.dataset)}"
        )

    def _cell(
        self, target: Target, subject: Subject, opened: Opened | None, name: str, method: Method, seed: int, place: tuple[int, int]
    ) -> None:
        ready = self._ready(target, subject, name, method, seed)
        if self.folder is None:
            self.folder = self.open_folder()
            os.environ["AIREPAIR_RUN"] = str(self.folder.path.absolute())  # where external tools put their logs
        self.show.begin(str(ready.case), *place)
        untouched = digests(subject)
        file_before(self.folder.path, ready)
        outcome = checked(run(ready, show=self.show.progress), subject, untouched)
        self._file(self.folder, ready, outcome, opened)

    def _ready(self, target: Target, subject: Subject, name: str, method: Method, seed: int) -> Prepared:
        from airepair.subjects.brought import asked

        failing, keep = asked(subject, self.wish.failing, self.wish.keep)
        dataset = target.dataset_of(subject)
        return prepare(
            case_of(self.wish, target, dataset, name, seed),
            subject,
            method,
            origins=chosen_for(self.wish, target, name).origins,
            profile=self.wish.place.profile(target.dataset),
            limit=self.wish.limit,
            failing=failing,
            keep=keep,
            pgd=self.wish.pgd,
            examiner=self.examiner,
        )

    def _file(self, folder: RunFolder, ready: Prepared, outcome: Outcome, opened: Opened | None) -> None:
        file_outcome(folder.path, outcome, "none")
        written = write_models(folder.models, ready.subject, outcome, opened, self.wish.net_arch)
        record = outcome.record
        if written.back:
            record = replace(record, subject={**record.subject, "written_back": dict(written.back)})
            file_again(folder.path, record)
        self.records.append(record)
        self.files += written.lines
        self.show.say(told(record))
        for line in (*outcome.log[1:-1], *written.lines):
            folder.log(f"  {line}")
        folder.write_report(self.records, [*self.files, *self.left_out])


def told(record: Record) -> str:
    """A finished cell in one line."""
    if record.status != "repaired":
        return f"  {record.key}: {record.status}: {record.reason}"
    scores = ", ".join(f"{m} {record.before[m]:.4f} -> {record.after[m]:.4f}" for m in ("accuracy", "constraint") if m in record.after)
    return f"  {record.key}: {scores}, {float(record.cost.get('seconds', 0)):.1f} s, {record.budget.get('backward', 0):,} training images"
