"""Which tests run which lines: the suite once under coverage, and for a mutant the tests of its
line, the likeliest and quickest first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from coverage import CoverageData

from airepair.errors import UsageError

from .child import preload, tested
from .mutate import Mutant

LONGEST = 3600  # CPU seconds of one file of tests under coverage
BUDGET = 20.0  # seconds of tests that a mutant gets
# Whose tests are covered if none are named: those of the rooms in the scope, and of what runs them.
ROOMS = (
    "methods",
    "linear",
    "search",
    "constraints",
    "metrics",
    "corruptions",
    "training",
    "evaluation",
    "arithmetic",
    "testing",
)


@dataclass(frozen=True)
class Covered:
    """`lines`: file -> line -> the tests that run it ("" stands for what runs on import); `seconds`
    of each test; the tests that `passed`; `importers`: file -> the tests of the files that imported it.
    """

    lines: Mapping[str, Mapping[int, Sequence[str]]]
    seconds: Mapping[str, float]
    passed: frozenset[str] = frozenset()
    importers: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests of the mutant's line; of a line that runs on import those of the whole file, since
        the test that happened to import it need not be about it; of a file that is data alone, so that no
        test runs a line of it, those that import it.

        At most BUDGET seconds of them.
        """
        lines = self.lines.get(mutant.path, {})
        # Coverage knows a statement of several lines by its first one.
        first = max((line for line in lines if line <= mutant.line), default=0)
        contexts = lines.get(first, ())
        found = {t for t in contexts if t}
        if not found or "" in contexts:
            found = {t for tests in lines.values() for t in tests if t}
        found = found or set(self.importers.get(mutant.path, ()))
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
    """Runs the tests of these files (or single tests) under coverage, into `folder`; pytest's exit code.

    Without names those of ROOMS that the folder does not have yet, so that what was stopped goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preload()
    code = 0
    rooms = [p for room in ROOMS for p in sorted((root / "tests" / room).rglob("test_*.py"))]
    for name in names or [str(p.relative_to(root)) for p in rooms]:
        stem = name.replace(".py", "").replace("::", ".").replace("/", ".")
        if not names and (folder / f"{stem}.xml").exists():  # pytest writes it when it ends
            continue
        settings = folder / f"{stem}.rc"
        settings.write_text(
            f"[run]\ndata_file = {folder / stem}.data\nrelative_files = true\n", encoding="utf-8"
        )
        cov = ("--cov=airepair", "--cov-context=test", "--cov-report=", f"--cov-config={settings}")
        words = [name, *cov, f"--junitxml={folder / stem}.xml", "-m", "not slow"]
        ended, said = tested(root, folder.parent / "cache", words, LONGEST)
        print(
            f"{name}: {said.strip().splitlines()[-1] if said.strip() else f'exit code {ended}'}", flush=True
        )
        code = max(code, abs(ended))
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
    importers: dict[str, frozenset[str]] = defaultdict(frozenset)
    for file in (f for f in files if f.with_suffix(".xml").exists()):
        data = CoverageData(str(file))
        data.read()
        own = frozenset(test for test, _, _ in _cases(file.with_suffix(".xml")))
        for name in data.measured_files():
            importers[name] |= own
            for line, contexts in data.contexts_by_lineno(name).items():
                lines[name][line] += [c.rpartition("|")[0] for c in contexts]
    cases = [case for file in folder.glob("*.xml") for case in _cases(file)]
    passed = frozenset(test for test, _, passes in cases if passes)
    return Covered(lines, {test: time for test, time, _ in cases}, passed, importers)


def _cases(file: Path) -> Iterable[tuple[str, float, bool]]:
    """Node id and seconds of each test in a junit file, which names modules and classes with dots; and
    whether it passed.
    """
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        parts = case.attrib["classname"].split(".")
        end = next((i for i, part in enumerate(parts, 1) if part.startswith("test_")), len(parts))
        module = "/".join(parts[:end]) + ".py"
        name = "::".join([module, *parts[end:], case.attrib["name"]])
        ended = {"failure", "error", "skipped"} & {part.tag for part in case}
        yield name, float(case.attrib["time"]), not ended
