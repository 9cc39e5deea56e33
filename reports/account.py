"""At the end of a run: what was selected and what was recorded are compared, and what is only in
memory is written.

Every selected cell has one record or one reason. If not, the run fails and lists them; an
interrupted run says how to resume.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from airepair.suite.folder import LOST

if TYPE_CHECKING:
    from .reporter import Reporter

SHOWN = 8  # cells that are listed by name


class Account:
    """The controller's, beside the reporter that knows what was recorded."""

    def __init__(self, config: pytest.Config, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.said: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes what is in no file, and lets no run be green in which a cell has neither a record
        nor a reason.
        """
        folder = self.reporter.folder
        if folder is None:
            return
        self.said = folder.make_whole(self.reporter.records.values())
        left = self._unaccounted(folder.recorded().keys() | self.reporter.records.keys())
        if left:
            self.said += self._list(left)
        if left or any(line.startswith(LOST) for line in self.said):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def _unaccounted(self, recorded: set[str]) -> list[str]:
        """The selected cells without record, reason for a skip, and failure that says why there is none.

        A cell that was filed while the run was interrupted has a record of which no report came here.
        """
        reporter = self.reporter
        known = {
            str(case)
            for nodeid, case in reporter.cells.items()
            if nodeid in reporter.skips or nodeid in reporter.failures
        }
        return [key for key in map(str, reporter.cells.values()) if key not in known | recorded]

    def _list(self, left: list[str]) -> list[str]:
        more = f" and {len(left) - SHOWN} more" if left[SHOWN:] else ""
        which = f"{len(left)} of {len(self.reporter.cells)} selected cells have neither a record nor a reason"
        return [
            f"{which}: {', '.join(left[:SHOWN])}{more}",
            "they run with the same command and --resume; finished cells are kept",
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self) -> None:
        """A dead worker costs its cell and no other, however many die.

        xdist gives up after four dead workers for each one and drops the cells that are queued;
        deaths outside of cells still count.
        """
        runner: Any = self.config.pluginmanager.get_plugin("dsession")
        if (
            self.config.getoption("maxworkerrestart") is None
            and getattr(runner, "_max_worker_restart", None) is not None
        ):
            runner._max_worker_restart += 1

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Below the tables, where they are read."""
        yield
        for line in self.said:
            terminalreporter.write_line(f"airepair: {line}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Beside the reporter, which reports/reporter.py has registered by now."""
    reporter = config.pluginmanager.get_plugin("airepair-reporter")
    if reporter is not None:
        config.pluginmanager.register(Account(config, reporter), "airepair-account")
