"""The gate in a run: `pytest benchmarks --baseline RUN --fail-if "accuracy:-0.5pp"` ends with the exit
code of `airepair compare`.

The baseline's cells that this run leaves out on purpose (deselected, or not among the node ids that
were given) are not judged; a cell that does not exist any more is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airepair.errors import UsageError, one_line
from airepair.records import Record
from airepair.suite.session import case_of, option

from .reporter import Reporter

if TYPE_CHECKING:
    from airepair.report.gate.rules import Rules
    from airepair.report.gate.verdict import Verdict

# The gate's own imports stand in its functions: they load numpy, which must not be there before
# fixtures/arithmetic.py has been asked.
JUDGED = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)  # the others keep their meaning
DESELECTED = "airepair_deselected"


class Deselected:
    """In every process that collects: which cells the selection leaves out.

    A worker sends them to the controller at its end.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.keys: set[str] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Notes their cases."""
        self.keys |= _keys(item.nodeid for item in items)

    def pytest_sessionfinish(self) -> None:
        """Of a worker: sends them."""
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[DESELECTED] = sorted(self.keys)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Of the controller: takes them."""
        self.keys |= set(getattr(node, "workeroutput", {}).get(DESELECTED, ()))


class Gate:
    """Judges the run at its end, on the controller."""

    def __init__(
        self,
        config: pytest.Config,
        baseline: tuple[list[Record], list[str]],
        rules: Rules,
        left_out: Deselected,
    ) -> None:
        self.config, self.rules, self.left_out = config, rules, left_out
        self.old, self.remarks = baseline
        self.verdict: Verdict | None = None

    @property
    def reporter(self) -> Reporter:
        """Which has the run's records."""
        found = self.config.pluginmanager.get_plugin("airepair-reporter")
        assert isinstance(found, Reporter)
        return found

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Sets the exit code, after every other plugin has had its say."""
        if self.config.getoption("collectonly") or session.exitstatus not in JUDGED:
            return
        from airepair.report.gate.verdict import judge

        found = self.reporter.read_records()
        named = _keys(self.config.args)
        old = [r for r in self.old if r.key not in self.left_out.keys and (not named or r.key in named)]
        skipped = len(self.old) - len(old)
        remarks = list(self.remarks)
        if skipped:
            remarks.append(f"{skipped} records of the baseline were not selected in this run")
        self.verdict = judge(
            old, found.records, self.rules, remarks=[*remarks, *found.remarks], refused=found.refused
        )
        session.exitstatus = self.verdict.code or session.exitstatus

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The comparison, below the tables of the run; its files lie beside the records."""
        if self.verdict is None:
            return
        from airepair.report.gate.output import table, write
        from airepair.report.text import terminal

        terminalreporter.section("Gate")
        for line in terminal(table(self.verdict), terminalreporter._tw.fullwidth).splitlines():
            terminalreporter.write_line(line)
        try:
            written = write(self.verdict, self.reporter.out)
            terminalreporter.write_line(f"wrote {', '.join(str(p) for p in written)}")
        except OSError as error:
            terminalreporter.write_line(
                f"airepair: cannot write the verdict to {self.reporter.out}: {one_line(error)}", red=True
            )


def pytest_configure(config: pytest.Config) -> None:
    """Rules and baseline are read before anything runs."""
    given = option(config, "baseline")
    folder = config.invocation_params.dir
    if given is None:
        if option(config, "fail_if") or option(config, "level") is not None:
            raise pytest.UsageError(
                "--fail-if and --level judge a run against --baseline RUN; accepted: them together"
            )
        return
    left_out = Deselected(config)
    config.pluginmanager.register(left_out, "airepair-deselected")
    if hasattr(config, "workerinput"):
        return
    from airepair.report.gate.pairing import baseline
    from airepair.report.gate.rules import rules_of

    try:
        rules = rules_of(option(config, "fail_if"), option(config, "level"), folder)
        old = baseline(folder / Path(given).expanduser())
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Gate(config, old, rules, left_out), "airepair-gate")


def _keys(nodeids: Iterable[str]) -> set[str]:
    return {str(case) for nodeid in nodeids if (case := case_of(nodeid))}
