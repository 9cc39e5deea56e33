"""pytest-benchmark under xdist, where it switches itself off: each test's numbers are shipped to
the controller.

Without this a compare gate would be silently dead.

Touches undocumented names of pytest-benchmark 5.3 (`_benchmarksession`, `disabled`,
`stats.Metadata`), hence this module of its own with its own test. The project's numbers never
depend on it: a Record carries its cost itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airepair.suite.session import BENCHMARK


def _session(config: pytest.Config) -> Any:
    session = getattr(config, "_benchmarksession", None)
    if session is None or session.skip:
        return None
    off = config.getoption("benchmark_disable") and not config.getoption("benchmark_enable")
    return None if off else session


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Switches it on again; only the controller saves and compares."""
    config, benchmarks = session.config, _session(session.config)
    if benchmarks is None or not benchmarks.xdist_warning:
        return
    benchmarks.disabled = benchmarks.xdist_warning = benchmarks.xdist_benchmark_found = False
    if hasattr(config, "workerinput"):
        benchmarks.save = benchmarks.autosave = benchmarks.json = benchmarks.compare_fail = None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """On a worker: the numbers of the call, before its report is built."""
    fixture: Any = getattr(item, "funcargs", {}).get("benchmark")
    stats: Any = getattr(fixture, "stats", None)
    if (
        call.when == "call"
        and stats
        and hasattr(item.config, "workerinput")
        and _session(item.config) is not None
    ):
        content = {
            "stats": stats.as_dict(include_data=True),
            "params": fixture.params and {k: str(v) for k, v in fixture.params.items()},
            "iterations": stats.iterations,
        }
        item.user_properties.append((BENCHMARK, json.dumps(content, default=str)))
    return (yield)


class Collector:
    """Rebuilds the numbers on the controller, so that table, JSON, autosave, compare and
    compare-fail behave as in a serial run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.seen = config, set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        content = next((v for k, v in report.user_properties if k == BENCHMARK), None)
        session = _session(self.config)
        if content is None or session is None or report.nodeid in self.seen:
            return
        self.seen.add(report.nodeid)
        session.benchmarks.append(rebuild(json.loads(str(content))))


def rebuild(content: dict[str, Any]) -> Any:
    """A `pytest_benchmark.stats.Metadata` from its own `as_dict(include_data=True)`."""
    from pytest_benchmark.stats import Metadata

    raw = content["stats"]
    fixture = SimpleNamespace(
        name=raw["name"],
        fullname=raw["fullname"],
        group=raw["group"],
        param=raw["param"],
        params=content["params"],
        extra_info=raw["extra_info"],
        cprofile_stats=None,
        has_error=False,
    )
    metadata = Metadata(fixture, iterations=content["iterations"], options=raw["options"])
    for seconds in raw["stats"]["data"]:
        metadata.update(seconds * content["iterations"])
    return metadata


# What asks for pytest-benchmark's own table: whoever names none of these sees ours alone.
DISPLAY = (
    "--benchmark-columns",
    "--benchmark-sort",
    "--benchmark-group-by",
    "--benchmark-name",
    "--benchmark-verbose",
    "--benchmark-histogram",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Its table stays off unless it is asked for, and only the controller collects."""
    if not any(str(word).startswith(DISPLAY) for word in config.invocation_params.args):
        config.option.benchmark_quiet = True
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config), "airepair-benchmark-bridge")
