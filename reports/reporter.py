"""The reporter plugin: gathers the records on the controller, files the cells whose worker died, and
writes Table I at the end of the run.

Results travel per test in `report.user_properties` (a worker that dies sends nothing at its end)
and are taken once a cell, in any phase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.errors import AirepairError, UsageError, one_line
from airepair.host.signals import end_in_order
from airepair.methods import METHODS
from airepair.paths import cache
from airepair.records import Found, Record, append, scan
from airepair.runner.storage import scores_before
from airepair.suite.durations import column_key, means, store, training_key
from airepair.suite.folder import RunFolder
from airepair.suite.session import (
    CHANGED,
    PROPERTY,
    RECORDS,
    RESUMED,
    TRAINING,
    case_of,
    option,
    out_folder,
    profile_of,
)

PHASES = ("setup", "call", "teardown")
INTERRUPTED = int(pytest.ExitCode.INTERRUPTED)
PAPER = Path(__file__).parent / "paper" / "table1.csv"


class Reporter:
    """What the controller knows of the run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.out = config, out_folder(config)
        self.records: dict[str, Record] = {}
        self.skips: dict[str, str] = {}
        self.durations: dict[str, float] = {}
        self.changed: dict[str, str] = {}
        self.training: dict[str, float] = {}
        self.cells: dict[str, Case] = {}
        self.folder: RunFolder | None = None
        self.failures: set[str] = set()
        self.session: pytest.Session | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A serial run knows its cells."""
        self._begin(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """The first worker knows the cells; none has begun before all know them."""
        self._begin(ids)

    def _begin(self, nodeids: Iterable[str]) -> None:
        """Takes the folder of the results.

        A run without a cell leaves the folder alone: in a checkout `pytest tests` loads this plugin, too.
        """
        cells = {nodeid: case for nodeid in nodeids if (case := case_of(nodeid))}
        runs_none = self.config.getoption("collectonly") or option(self.config, "plan")
        if runs_none or self.folder or not cells:
            return
        try:
            self.folder = RunFolder(
                self.out, resume=option(self.config, "resume"), join=option(self.config, "join")
            )
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        except OSError as error:
            raise pytest.UsageError(
                f"cannot write to {self.out}: {one_line(error)}; accepted: --out DIR with a writable folder"
            ) from error
        self.cells = cells
        end_in_order(patient=True)

    def pytest_report_header(self) -> list[str]:
        """Where results go, and what of installed packages is left out (fixtures/expectation.py says what
        runs, and how long).

        A method that cannot be imported is not left out: it is a failed cell.
        """
        from airepair.metrics import broken

        return [
            f"airepair: results in {self.out}",
            *(f"airepair: left out: {reason}" for reason in (METHODS.ignored() | broken()).values()),
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        """Takes the cell's record from the first report that carries it, before anybody sees the report:
        the test of a cell whose record cannot be read has failed.
        """
        self._take(report)
        return (yield)

    def _take(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        for name, value in report.user_properties:
            if name == PROPERTY:
                try:
                    record = Record.from_json(str(value))
                except UsageError as error:
                    if report.when == "call" and report.passed:
                        report.outcome, report.longrepr = "failed", f"no record: {one_line(error)}"
                else:
                    self.records.setdefault(record.key, record)
            elif name == TRAINING:
                self.training[report.nodeid] = float(str(value))
            elif name == CHANGED:
                self.changed[report.nodeid] = str(value)
        if report.failed and report.when in PHASES:  # xdist's own report of a dead worker has no phase
            self.failures.add(report.nodeid)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skips[report.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A worker died in this cell: its record says so, with the scores before if the worker got that far.

        One that had been filed by then stands, and a cell that Ctrl-C ended has not crashed.
        """
        case = case_of(crashitem)
        if (
            case is None
            or self.folder is None
            or getattr(getattr(report, "node", None), "workeroutput", {}).get("exitstatus") == INTERRUPTED
        ):
            return
        filed = self.folder.recorded().get(str(case))
        record = filed or Record(
            case,
            "crashed",
            "the worker process died while it ran this cell",
            before=scores_before(self.out, case),
        )
        self.records[record.key] = record
        if filed is None:
            with suppress(OSError):  # it is tried again at the end of the run, and the exit code says so
                append(self.out / RECORDS, record)

    def read_records(self) -> Found:
        """What is on disk, and what only this process knows (a full disk)."""
        file = self.out / RECORDS
        try:
            found = scan([file]) if file.exists() else Found([], [], [])
        except UsageError as error:
            found = Found([], [str(error)], [])
        known = {r.key for r in found.records}
        return Found(
            found.records + [r for k, r in sorted(self.records.items()) if k not in known],
            found.remarks,
            found.refused,
        )

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Table I, the paths of what was written, and what did not run; also of a run that had
        nothing left to do.
        """
        if self.folder is None or not (self.durations or self.records):
            return
        from airepair.report import terminal, write_all
        from airepair.report.cells import grid
        from airepair.report.screen import short

        found = self.read_records()
        records = found.records
        for line in found.refused:
            terminalreporter.write_line(f"airepair: no record: {line}", red=True)
        for line in found.remarks:
            terminalreporter.write_line(f"airepair: {line}")
        for change, count in Counter(self.changed.values()).items():
            terminalreporter.write_line(f"airepair: {count} cell{'s' * (count > 1)} ran again: {change}")
        if not records:
            return
        form = option(self.config, "report")
        if form == "full":
            terminalreporter.section("Table I")
            for line in terminal(records, PAPER, width=terminalreporter._tw.fullwidth).splitlines():
                terminalreporter.write_line(line)
        try:
            write_all(records, self.out, PAPER, runs=[self.out])
            self._store_durations()
        except (OSError, AirepairError) as error:
            terminalreporter.write_line(
                f"airepair: cannot write the reports to {self.out}: {one_line(error)}", red=True
            )
            if self.session is not None:
                self.session.exitstatus = self.session.exitstatus or pytest.ExitCode.TESTS_FAILED
            return
        paths = [
            f"wrote {self.out / RECORDS} ({len(records)} records)",
            f"all tables: {self.out}/*.txt, .md, .tex, .csv; page: {self.out / 'leaderboard.html'}",
            f"each cell's files: {self.out / 'cells'}; which method to use: airepair recommend {self.out}",
        ]
        if form != "short":
            for line in paths:
                terminalreporter.write_line(line)
            return
        terminalreporter.section("airepair: the verdict")
        for line in short(grid(records), paths).splitlines():
            terminalreporter.write_line(line)

    def _store_durations(self) -> None:
        """What each cell took without the training of its subject, which the next run finds in the cache."""
        ran = {
            i: case for i in self.durations if (case := case_of(i)) is not None and str(case) in self.records
        }
        seconds = {i: round(self.durations[i] - self.training.get(i, 0.0), 3) for i in ran}
        names = {case.dataset: profile_of(self.config, case.dataset) for case in ran.values()}
        store(self.out, seconds)
        columns = ((column_key(case, names[case.dataset]), seconds[i]) for i, case in ran.items())
        trained = (
            (training_key(ran[i], names[ran[i].dataset]), taken)
            for i, taken in self.training.items()
            if i in ran
        )
        store(cache(), means(columns) | means(trained))

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_sessionfinish")
    def pytest_last_line(self, exitstatus: int) -> Generator[None]:
        """A run in which nothing ran says so in its last line, below pytest's own; one that had
        nothing left to do says that, and one that was interrupted how it goes on.
        """
        yield
        cells = [k for k in self.durations if case_of(k)]
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter and self.folder is not None and exitstatus == pytest.ExitCode.INTERRUPTED:
            kept = "a subject that was being trained goes on from its last minute or epoch"
            reporter.write_line(
                f"airepair: interrupted: the same command with --resume runs the other cells, and {kept}",
                yellow=True,
            )
            return
        if not cells or self.records or not reporter:
            return
        if all(self.skips.get(k, "").startswith(RESUMED) for k in cells):
            reporter.write_line(
                f"airepair: nothing to do: all {len(cells)} cells have finished records "
                f"({self.out / RECORDS})"
            )
            return
        reasons = Counter(self.skips.get(k, "it failed before its repair") for k in cells)
        reason, count = reasons.most_common(1)[0]
        most = (
            f"{count} of {len(cells)} cells"
            if len(reasons) > 1
            else f"{count} cell{'s' if count > 1 else ''}"
        )
        reporter.write_line(f"airepair: nothing ran, so there is no table ({most}: {reason})", yellow=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run that measured nothing is not green: with every cell skipped it ends as if none had
        been collected (5).

        Cells that --resume keeps were measured. --strict: a method that is unsupported in every
        cell that ran fails the run.
        """
        self.session = session
        cells = [k for k in self.durations if case_of(k)]
        skipped = [self.skips.get(k) for k in cells]
        if (
            session.exitstatus == pytest.ExitCode.OK
            and cells
            and all(skipped)
            and not any(str(s).startswith(RESUMED) for s in skipped)
        ):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        if not self.config.getoption("strict"):
            return
        by_method: dict[str, set[str]] = {}
        for record in self.records.values():
            by_method.setdefault(record.case.base_method, set()).add(record.status)
        useless = sorted(m for m, statuses in by_method.items() if statuses == {"unsupported"})
        if useless:
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter:
                reporter.write_line(
                    f"\nairepair --strict: unsupported in every cell: {', '.join(useless)}", red=True
                )
            session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """In verbose mode a cell's line shows what came out."""
    if report.when != "call" or not report.passed:
        return None
    for name, value in report.user_properties:
        if name == PROPERTY:
            try:
                record = Record.from_json(str(value))
            except UsageError:  # a worker asks, too; the controller's test fails for it
                return None
            before, after = record.before.get("accuracy", 0.0), record.after.get("accuracy", 0.0)
            word = "WRECKED" if record.wrecked else "PASSED"
            return (
                "passed",
                ".",
                f"{word} accuracy {100 * before:.2f} -> {100 * after:.2f} in "
                f"{record.cost.get('seconds', 0):.1f} s",
            )
    return None


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(config), "airepair-reporter")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    """Torch and the GPU beside the processor."""
    import torch

    machine_info["torch"] = torch.__version__
    machine_info["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
