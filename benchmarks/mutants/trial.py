"""One mutant at a time: its file is changed in a copy of the checkout, its tests run there, and the
file is put back.

A test that fails counts only if it passes on the code as it is. Any end of pytest but "all passed"
and "tests failed" says nothing of a mutant and stops the run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import FileLock

from airepair.errors import UsageError
from airepair.runner.provenance import commit

from .child import preload, tested
from .covering import Covered
from .mutate import Mutant
from .scope import drawn

DRAWN, RESULTS, SOUND, COMMIT, TREE = "drawn.json", "results.jsonl", "sound.txt", "commit.json", "tree"
AGAIN = "again.json"  # of a folder that goes on from a committed score: what was tried since, and when
# CPU seconds that a mutant's tests may take: so many times what they took before, and so many more
FACTOR, LEAST = 4, 20
PASSED = 0
FAILED = (1, 2, 4)  # pytest's exit codes if tests failed, or their file could not be imported
OVER = (-signal.SIGXCPU, -signal.SIGKILL)
Status = Literal["killed", "survived", "timeout"]


@dataclass(frozen=True)
class Result:
    """How a mutant ended: by which test, of how many. A mutant that never ends is found out too."""

    key: str
    status: Status
    by: str
    tests: int


def copied(root: Path, folder: Path) -> Path:
    """A copy of the checkout's tracked files, made anew."""
    tree = folder / TREE
    shutil.rmtree(tree, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)
    return tree


def of_folder(tree: Path, folder: Path, count: int, seed: int) -> list[Mutant]:
    """The mutants of the folder: those that were drawn when it was new.

    UsageError if the code has changed since.
    """
    file = folder / DRAWN
    now = drawn(tree, count, seed)
    if not file.exists():
        file.write_text(json.dumps([asdict(m) for m in now], indent=1), encoding="utf-8")
    known = msgspec.json.decode(file.read_bytes(), type=list[Mutant])
    if known != now:
        raise UsageError(
            f"{file} is of another state of the code, or of another --count or --seed; accepted: a new --out"
        )
    return known


def results(folder: Path) -> dict[str, Result]:
    """What is known of each mutant, the last word of each."""
    file = folder / RESULTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {
        r.key: r for r in (msgspec.json.decode(line, type=Result) for line in lines if line.endswith("}"))
    }


def once_survived(folder: Path) -> set[str]:
    """The mutants that survived some run, whatever became of them later."""
    lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    found = (msgspec.json.decode(line, type=Result) for line in lines if line.endswith("}"))
    return {result.key for result in found if result.status == "survived"}


def carry(folder: Path, score: Path, drawn_: Sequence[Mutant]) -> None:
    """Begins the folder with the results of a committed score, so that only what is asked for is tried.

    Nothing if the folder has results. UsageError if the score is not of these mutants.
    """
    if (folder / RESULTS).exists():
        return
    facts = json.loads(score.read_text(encoding="utf-8"))
    lines = [Result(key, status, by, 0) for key, status, by in facts.pop("results")]
    if sorted(r.key for r in lines) != sorted(m.key for m in drawn_):
        raise UsageError(
            f"{score} is of another state of the code, or of another --count or --seed; accepted: a score "
            f"of the mutants that are drawn now"
        )
    (folder / COMMIT).write_text(json.dumps({k: facts[k] for k in ("commit", "dirty")}), encoding="utf-8")
    past = {"late": facts["late"], "runs": facts.get("again", [])}
    (folder / AGAIN).write_text(json.dumps(past), encoding="utf-8")
    text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
    (folder / RESULTS).write_text(text, encoding="utf-8")


def carried(folder: Path) -> dict[str, Any]:
    """The count of `late` kills of the score that the folder went on from, and the `runs` since."""
    file = folder / AGAIN
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"late": 0, "runs": []}


def _begin(folder: Path) -> None:
    """Says which commit the results are of: all of them, or in a folder that goes on, the new ones."""
    head, dirty = commit()
    facts = {"commit": head, "dirty": dirty}
    if not (folder / AGAIN).exists():
        (folder / COMMIT).write_text(json.dumps(facts), encoding="utf-8")
        return
    past = carried(folder)
    past["runs"].append(facts | {"date": datetime.now(UTC).date().isoformat(), "ended": {}})
    (folder / AGAIN).write_text(json.dumps(past), encoding="utf-8")


def _file(folder: Path, result: Result) -> None:
    with (folder / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result)) + "\n")
    if (folder / AGAIN).exists():
        past = carried(folder)
        past["runs"][-1]["ended"][result.key] = result.status
        (folder / AGAIN).write_text(json.dumps(past), encoding="utf-8")


def run(
    root: Path,
    folder: Path,
    tests: Covered,
    draw: tuple[int, int],
    *,
    again: Sequence[str] | None,
    score: Path | None = None,
) -> Iterator[Result]:
    """Tries the mutants that have no result yet; each result is on disk before the next begins.

    `draw`: how many mutants, and the seed. `again`: survivors to try once more, those whose keys begin
    with one of these words (() for all of them, None for no survivor). `score`: where a new folder
    takes the results of the others from.
    """
    with FileLock(folder / "lock", timeout=0):
        tree = copied(root, folder)
        found = of_folder(tree, folder, *draw)
        if score is not None:
            carry(folder, score, found)
        known = results(folder)
        if lost := [word for word in again or () if not any(m.key.startswith(word) for m in found)]:
            raise UsageError(f"no mutant {', '.join(lost)}; accepted: the beginning of a mutant's key")
        _begin(folder)
        preload()
        for mutant in found:
            before = known.get(mutant.key)
            if before is None or (before.status == "survived" and _tries_again(mutant.key, again)):
                result = tried(tree, folder, mutant, tests)
                _file(folder, result)
                yield result


def _tries_again(key: str, again: Sequence[str] | None) -> bool:
    return again is not None and (not again or key.startswith(tuple(again)))


def tried(tree: Path, folder: Path, mutant: Mutant, tests: Covered) -> Result:
    """How the mutant ends by its tests; with none of them it is a survivor, too."""
    chosen = tests.of(mutant)
    while chosen:
        seconds = LEAST + FACTOR * round(sum(tests.seconds.get(t, 1.0) for t in chosen))
        with changed(tree / mutant.path, mutant):
            code, said = tested(tree, folder / "cache", ["-x", *chosen], seconds)
        if code == PASSED:
            return Result(mutant.key, "survived", "", len(chosen))
        if code in OVER:
            return Result(mutant.key, "timeout", "", len(chosen))
        if code < 0:  # a crash of the interpreter
            return Result(mutant.key, "killed", signal.Signals(-code).name, len(chosen))
        by = failed(said)
        if code not in FAILED or not by:
            raise UsageError(f"the tests of {mutant.key} ended with exit code {code}: {said[-500:]}")
        if by in tests.passed or sound(tree, folder, by):
            return Result(mutant.key, "killed", by, len(chosen))
        chosen = [t for t in chosen if t != by and not t.startswith(f"{by}::")]
    return Result(mutant.key, "survived", "", 0)


@contextmanager
def changed(file: Path, mutant: Mutant) -> Iterator[None]:
    """The file with the mutant in it, and as it was again.

    Python compares a file's time, in whole seconds, with that of its bytecode, so each state gets
    a time of its own.
    """
    source, stat = file.read_text(encoding="utf-8"), file.stat()
    newer = int(stat.st_mtime) + 1 + mutant.start * 2
    try:
        file.write_text(mutant.applied(source), encoding="utf-8")
        os.utime(file, (newer, newer))
        yield
    finally:
        file.write_text(source, encoding="utf-8")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def failed(said: str) -> str:
    """The first test, or file of tests, that pytest says failed; "" if it says none."""
    lines = (line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    return next((line.partition(" ")[2].partition(" - ")[0] for line in lines), "")


def sound(tree: Path, folder: Path, name: str) -> bool:
    """Whether a test passes, or a file of tests imports, with the code as it is; each is asked once."""
    file = folder / SOUND
    known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if f"passes {name}" in known or f"fails {name}" in known:
        return f"passes {name}" in known
    words = [name] if "::" in name else [name, "--collect-only"]
    code, _ = tested(tree, folder / "cache", words, LEAST * 10)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{'passes' if code == PASSED else 'fails'} {name}\n")
    return code == PASSED
