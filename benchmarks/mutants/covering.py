"""Which tests run which lines: the suite once under coverage, and for a mutant the tests of its
line, the likeliest and quickest first.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from coverage import CoverageData

from airepair.errors import UsageError

from .mutate import Mutant

BUDGET = 45.0  # seconds of tests that a mutant gets


@dataclass(frozen=True)
class Covered:
    """`lines`: file -> line -> the tests that run it ("" stands for what runs on import); `seconds`
    of each test.
    """

    lines: Mapping[str, Mapping[int, Sequence[str]]]
    seconds: Mapping[str, float]

    def of(self, mutant: Mutant) -> list[str]:
        """The tests of the mutant's line; of a line that runs on import those of the whole file.

        At most BUDGET seconds of them.
        """
        lines = self.lines.get(mutant.path, {})
        found = {t for t in lines.get(mutant.line, ()) if t} or {
            t for tests in lines.values() for t in tests if t
        }
        own = f"test_{Path(mutant.path).stem}.py"
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=lambda t: (own not in t, self.seconds.get(t, 1.0), t)):
            total += self.seconds.get(test, 1.0)
            if chosen and total > BUDGET:
                break
            chosen.append(test)
        return chosen


def cover(root: Path, folder: Path, names: Sequence[str]) -> int:
    """Runs the tests of these files under coverage, into `folder`; pytest's exit code.

    Files that were covered before keep their own data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = 0
    for name in names or sorted(str(p.relative_to(root)) for p in (root / "tests").rglob("test_*.py")):
        stem = Path(name).with_suffix("").as_posix().replace("/", ".")
        words = [
            "--cov=airepair",
            "--cov-context=test",
            "--cov-report=",
            f"--junitxml={folder / stem}.xml",
            "-m",
            "not slow",
            "-q",
        ]
        settings = folder / f"{stem}.rc"
        settings.write_text(
            f"[run]\ndata_file = {folder / stem}.data\nrelative_files = true\n", encoding="utf-8"
        )
        line = [sys.executable, "-m", "pytest", name, f"--cov-config={settings}", *words]
        code = max(code, subprocess.run(line, cwd=root, check=False).returncode)
    return code


def covered(folder: Path) -> Covered:
    """What `cover` has left. UsageError if there is nothing."""
    lines: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    files = sorted(folder.glob("*.data"))
    if not files:
        raise UsageError(
            f"{folder} has no coverage; accepted: a folder that `python -m benchmarks.mutants cover` has "
            f"filled"
        )
    for file in files:
        data = CoverageData(str(file))
        data.read()
        for name in data.measured_files():
            for line, contexts in data.contexts_by_lineno(name).items():
                lines[name][line] += [c.rpartition("|")[0] for c in contexts]
    return Covered(lines, {test: time for file in folder.glob("*.xml") for test, time in _seconds(file)})


def _seconds(file: Path) -> Iterable[tuple[str, float]]:
    """Node id and seconds of each test in a junit file, which names modules and classes with dots."""
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        parts = case.attrib["classname"].split(".")
        module = "/".join(parts[:2]) + ".py"
        yield "::".join([module, *parts[2:], case.attrib["name"]]), float(case.attrib["time"])
