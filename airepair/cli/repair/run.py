"""Repairs targets with methods, one cell after the other through `run_cell`, into the folder of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from airepair.case import TUNED, Case, split_variant, with_variant
from airepair.cli.repair.folder import RunFolder
from airepair.cli.repair.progress import Show
from airepair.cli.repair.targets import Target, skipped
from airepair.engines.command import Cells
from airepair.errors import AirepairError
from airepair.host.atomic import write_atomically
from airepair.methods import build
from airepair.paths import cache
from airepair.records import Record
from airepair.report.facts import wrecked
from airepair.report.recommend import has_own_failing
from airepair.runner.cell import CellResult, CellSpec, Deaf
from airepair.runner.loading import Loaded, Loader
from airepair.runner.outcome import UNCHANGED
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.runner.storage import file_before, file_result, scores_before
from airepair.settings import Chosen, is_tuned
from airepair.types import Subject


@dataclass(frozen=True)
class Wish:
    """What is asked of every target.

    `options`: method -> what the user gave; `fixed`: options of an earlier run, with their origins.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    shared: Shared
    options: Mapping[str, Mapping[str, str]]
    fixed: Mapping[str, Chosen]
    auto: bool = False
    lenient: bool = False  # a target that cannot be loaded is left out with a line (--all)


def methods_for(wish: Wish, target: Target) -> list[str]:
    """Returns the methods of a target's cells: with --auto each is followed by `METHOD[tuned]` if
    the tuned table has options for it.
    """
    profile, found = wish.shared.profile_of(target.dataset), dict[str, None]()
    for method in wish.methods:
        found[method] = None
        if (
            wish.auto
            and not split_variant(method)[1]
            and is_tuned(target.dataset, target.architecture, method, profile)
        ):
            found[with_variant(method, TUNED)] = None
    return list(found)


def chosen_for(wish: Wish, target: Target, method: str) -> Chosen:
    """Returns the options of a cell: the tables' (with --auto the tuned ones too) or an earlier
    run's, then what the user gave.
    """
    given = wish.options.get(split_variant(method)[0], {})
    if method in wish.fixed:
        fixed = wish.fixed[method]
        return Chosen({**fixed.options, **given}, {**fixed.origins, **dict.fromkeys(given, "given")})
    case = Case(target.data, target.model, method, 0)
    return chosen_options(
        case, target.architecture, wish.shared.profile_of(target.dataset), given, target.dataset
    )


def untuned(wish: Wish, targets: Sequence[Target]) -> list[str]:
    """Returns the methods that no table of tuned settings knows for these targets."""
    profiles = {t.dataset: wish.shared.profile_of(t.dataset) for t in targets}
    known = {
        m
        for m in wish.methods
        for t in targets
        if is_tuned(t.dataset, t.architecture, m, profiles[t.dataset])
    }
    return [m for m in wish.methods if m not in known]


@dataclass
class Run:
    """It holds a run and its cells as they finish.

    `open_folder` makes the folder when the first cell is ready, so that bad input leaves nothing.
    """

    wish: Wish
    open_folder: Callable[[], RunFolder]
    show: Show
    cells: Cells
    records: list[Record] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    folder: RunFolder | None = None
    loaded: Loaded | None = None

    def repair(self, targets: Sequence[Target]) -> None:
        """Repairs every target with every method and seed.

        UsageError from a target ends it, unless the wish is lenient.
        """
        specs = [
            [self._spec(t, m, s) for s in t.seeds or self.wish.seeds for m in methods_for(self.wish, t)]
            for t in targets
        ]
        for spec in {spec.case.base_method: spec for part in specs for spec in part}.values():
            build(spec.case.base_method, spec.options)  # bad options end the run before any work
        total, done = sum(map(len, specs)), 0
        for target, part in zip(targets, specs, strict=True):
            loader = Loader(cache(), self.show.progress, may_train=not target.trained)
            try:
                for number, spec in enumerate(part, done + 1):
                    self._cell(loader, spec, number, total)
            except AirepairError as error:
                if not self.wish.lenient:
                    raise
                self.left_out.append(skipped(target, error))
                self.show.say(self.left_out[-1])
            done += len(part)

    def _spec(self, target: Target, method: str, seed: int) -> CellSpec:
        case = Case(target.data, target.model, method, seed)
        chosen = chosen_for(self.wish, target, method)
        return cell_spec(
            self.wish.shared,
            case,
            chosen,
            dataset=target.dataset,
            brought=target.brought,
            architecture=target.architecture,
        )

    def _cell(self, loader: Loader, spec: CellSpec, number: int, total: int) -> None:
        self.show.begin(f"{spec.case.dataset}-{spec.case.model}-s{spec.case.seed}: loading", number, total)
        loaded = loader(spec)
        if loaded is not self.loaded:
            self.loaded = loaded
            self._say(loaded.subject, spec)
        self.show.begin(str(spec.case), number, total)
        result, lines = self._run(spec, loaded)
        folder = self._opened()
        file_result(folder.path, result, "none")
        for name, content in result.models.items():
            write_atomically(folder.models / name, content)
        self.records.append(result.record)
        self.files += result.lines
        self.show.say(result_line(result.record))
        for line in (*lines, *result.lines):
            folder.log(f"  {line}")
        folder.write_report(self.records, [*self.files, *self.left_out])
        if result.lost:
            raise AirepairError(
                f"{result.record.key}: {result.record.reason}; no other cell can run in this process"
            )

    def _run(self, spec: CellSpec, loaded: Loaded) -> tuple[CellResult, Sequence[str]]:
        """How the cell ended, and what the run's log gets of it."""
        end = self.cells.run(spec, lambda _: loaded, _Listening(self, spec))
        if isinstance(end, CellResult):
            return end, end.files["log.txt"].decode().splitlines()[1:-1]
        result = end.result(spec.case, scores_before(self._opened().path, spec.case))
        return result, result.record.notes

    def _say(self, subject: Subject, spec: CellSpec) -> None:
        sizes = ", ".join(
            f"{len(getattr(subject.dataset, n)):,} {n}" for n in ("train", "repair", "validation", "test")
        )
        self.show.say(
            f"  {subject.name}: {sizes} images; trained on: {subject.trained_on}; profile {spec.profile}"
        )
        for note in (*subject.origin.get("notes", ()), *subject.dataset.notes):
            self.show.say(f"    {note}")

    def _opened(self) -> RunFolder:
        if self.folder is None:
            self.folder = self.open_folder()
        return self.folder


@dataclass(frozen=True)
class _Listening(Deaf):
    """Passes a cell's reports on to the display, and its scores before to the folder."""

    run: Run
    spec: CellSpec

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        self.run.show.progress(phase, step, steps, loss)

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        file_before(self.run._opened().path, self.spec.case, scores, missing)


def result_line(record: Record) -> str:
    """Returns a finished cell in one line."""
    if record.status != "repaired":
        return f"  {record.key}: {record.status}: {record.reason}"
    scores = ", ".join(
        f"{m} {record.before[m]:.4f} -> {record.after[m]:.4f}"
        for m in ("accuracy", "constraint")
        if m in record.after
    )
    if has_own_failing(record):
        words = {"repair_rate": "given inputs repaired", "held_out_rate": "of those held out"}
        scores += "".join(
            f", {word} {record.after[name]:.4f}" for name, word in words.items() if name in record.after
        )
    remarks = [note for note in record.notes if note.startswith(UNCHANGED)]
    remarks += (
        ["the repair wrecked the model: less than half of its accuracy is left"] if wrecked([record]) else []
    )
    costs = (
        f"{float(record.cost.get('seconds', 0)):.1f} s, {record.budget.get('backward', 0):,} training images"
    )
    return "; ".join((f"  {record.key}: {scores}, {costs}", *remarks))
