"""The mutation run: what counts as a mutant, which tests it gets, and how it ends."""

import json
import shutil
from pathlib import Path

import pytest

from airepair.errors import UsageError
from benchmarks.mutants import trial
from benchmarks.mutants.covering import BUDGET, Covered, cover, covered
from benchmarks.mutants.mutate import Mutant, mutants
from benchmarks.mutants.page import SCORE, write
from benchmarks.mutants.scope import SCOPE, drawn, everything, files
from benchmarks.mutants.trial import COMMIT, DRAWN, RESULTS, SOUND, Result, run, tried

ROOT = Path(__file__).parents[2]
SOURCE = '''"""A docstring with 1 + 1."""
LIMIT: ClassVar[int] = 3

def f(x: int, y: float = 2.0) -> int:
    """Adds 1."""
    if x > 0 and y:
        x += 1
    raise ValueError(f"{x + 1}")
    return max(-x, y.abs())
'''


def test_code_is_changed_and_words_and_settings_are_not() -> None:
    """Each mutant still compiles, and none touches a docstring, an annotation, a message or a
    method's card.
    """
    found = mutants("m.py", SOURCE)
    assert {m.name for m in found} == {
        "2.0 -> 4.0",
        "x > 0 and y -> (not (x > 0 and y))",
        "> -> >=",
        "0 -> 1",
        "and -> or",
        "+= -> -=",
        "1 -> 2",
        "max -> min",
        "-x -> (x)",
        "y.abs() -> (y)",
    }
    assert len({m.applied(SOURCE) for m in found}) == len(found)
    for mutant in found:
        compile(mutant.applied(SOURCE), "m.py", "exec")


def test_every_mutant_of_the_scope_is_a_program() -> None:
    """The draw follows its seed alone."""
    sources = {}
    for mutant in everything(ROOT)[::25]:
        source = sources.setdefault(mutant.path, (ROOT / mutant.path).read_text())
        compile(mutant.applied(source), mutant.path, "exec")
    assert drawn(ROOT, 20, 0) == drawn(ROOT, 20, 0) != drawn(ROOT, 20, 1)


def test_the_scope_is_there_and_each_file_counts_once(tmp_path: Path) -> None:
    """A file that is listed twice would be drawn twice as often; one that has moved, never."""
    found = files(ROOT)
    assert len(found) == len(set(found)) > 100
    for name in SCOPE:
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / SCOPE[-1]).rmdir()
    with pytest.raises(UsageError, match=f"{SCOPE[-1]} is in the scope"):
        files(tmp_path)


def test_a_mutant_gets_the_tests_of_its_line_its_own_file_first_within_the_budget() -> None:
    """A line that runs on import gets those of the whole file, a later line of a statement those of
    the first.
    """
    x, m = "t/test_x.py", "t/test_m.py"
    lines = {1: ["", f"{x}::b"], 3: [f"{x}::b", f"{m}::a", f"{x}::d"], 4: [f"{x}::c"]}
    known = Covered({"a/m.py": lines}, {f"{x}::d": BUDGET})
    at = {line: known.of(Mutant("a/m.py", line, 0, 1, "", "")) for line in (1, 2, 3, 4, 9)}
    whole = [f"{m}::a", f"{x}::b", f"{x}::c"]
    assert at == {1: whole, 2: whole, 3: [f"{m}::a", f"{x}::b"], 4: [f"{x}::c"], 9: [f"{x}::c"]}


@pytest.mark.parametrize(("sign", "status"), [("-", "killed"), ("+ 0 +", "survived")])
def test_a_mutant_ends_by_its_tests_and_the_file_is_put_back(tmp_path: Path, sign: str, status: str) -> None:
    """Found out by the test that fails; a survivor if all pass."""
    tree, mutant = checkout(tmp_path, sign)
    source, time = (tree / "m.py").read_text(), (tree / "m.py").stat().st_mtime_ns
    result = tried(tree, tmp_path, mutant, Covered({"m.py": {2: ["test_m.py::test_f"]}}, {}))
    assert (result.status, result.by) == (status, "test_m.py::test_f" if status == "killed" else "")
    assert (tree / "m.py").read_text() == source
    assert (tree / "m.py").stat().st_mtime_ns == time


def checkout(folder: Path, sign: str = "-", more: str = "") -> tuple[Path, Mutant]:
    """A program, its tests, and a mutant of it."""
    tree = folder / "tree"
    tree.mkdir()
    source = "def f(x):\n    return x + 1\n"
    (tree / "m.py").write_text(source)
    (tree / "test_m.py").write_text(f"from m import f\n\ndef test_f():\n    assert f(1) == 2\n{more}")
    return tree, Mutant("m.py", 2, source.index("+"), source.index("+") + 1, sign, f"+ -> {sign}")


def test_a_test_that_fails_without_the_mutant_has_not_noticed_it(tmp_path: Path) -> None:
    """It is left out, and the others decide."""
    tree, mutant = checkout(tmp_path, "+ 0 +", "\ndef test_broken():\n    assert f(1) == 3\n")
    names = ["test_m.py::test_broken", "test_m.py::test_f"]
    result = tried(tree, tmp_path, mutant, Covered({"m.py": {2: names}}, {}))
    assert (result.status, result.tests) == ("survived", 1)
    assert (tmp_path / SOUND).read_text() == "fails test_m.py::test_broken\n"
    passed = Covered({"m.py": {2: names}}, {}, frozenset(names))
    assert tried(tree, tmp_path, mutant, passed).by == names[0]  # it passed while the tests were covered


def test_a_mutant_that_does_not_import_is_noticed_and_a_test_that_is_not_found_notices_nothing(
    tmp_path: Path,
) -> None:
    """pytest ends with an error in both, which says something of the mutant in the first alone."""
    tree, mutant = checkout(tmp_path, "1 1")
    known = Covered({"m.py": {2: ["test_m.py::test_f"]}}, {})
    assert tried(tree, tmp_path, mutant, known).by == "test_m.py"
    with pytest.raises(UsageError, match="ended with exit code 4"):
        tried(tree, tmp_path, mutant, Covered({"m.py": {2: ["test_gone.py::test_f"]}}, {}))


def test_a_mutant_that_never_ends_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a limit of CPU time."""
    monkeypatch.setattr("benchmarks.mutants.trial.LEAST", 3)
    tree, mutant = checkout(tmp_path, "+ (lambda: [0 for _ in iter(int, 1)])()[0] +")
    known = Covered({"m.py": {2: ["test_m.py::test_f"]}}, {"test_m.py::test_f": 0.0})
    assert tried(tree, tmp_path, mutant, known).status == "timeout"


def test_covering_says_which_test_runs_which_line_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """In folders of tests too; a file that was covered is not run again unless it is named."""
    tests = tmp_path / "root" / "tests" / "metrics"
    tests.mkdir(parents=True)
    (tmp_path / "root" / "airepair").mkdir()
    (tmp_path / "root" / "airepair" / "__init__.py").write_text("LIMIT = 1\n")
    (tmp_path / "root" / "airepair" / "m.py").write_text("def f():\n    return 1\n\ndef g():\n    return 2\n")
    (tests / "test_m.py").write_text(
        "from airepair.m import f, g\n\ndef test_f():\n    f()\n\n"
        "class TestG:\n    def test_g(self):\n        g()\n"
    )
    out = tmp_path / "out" / "coverage"
    assert cover(tmp_path / "root", out, []) == 0
    found = covered(out)
    assert found.lines["airepair/m.py"][2] == ["tests/metrics/test_m.py::test_f"]
    assert found.lines["airepair/m.py"][5] == ["tests/metrics/test_m.py::TestG::test_g"]
    assert (
        found.passed
        == set(found.seconds)
        == {t for line in (2, 5) for t in found.lines["airepair/m.py"][line]}
    )
    data = Mutant("airepair/__init__.py", 1, 0, 1, "2", "1 -> 2")
    assert set(found.of(data)) == found.passed, "a file of data alone has the tests that import it"
    before = (out / "tests.metrics.test_m.xml").stat().st_mtime_ns
    assert cover(tmp_path / "root", out, []) == 0
    assert (out / "tests.metrics.test_m.xml").stat().st_mtime_ns == before


def test_the_page_wants_every_mutant_and_names_survivors_with_their_reasons(tmp_path: Path) -> None:
    """A mutant that was not tried is no success."""
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    drawn_ = [
        {"path": "airepair/metrics/m.py", "line": n, "start": n, "end": n + 1, "text": "-", "name": "+ -> -"}
        for n in (1, 2)
    ]
    (work / DRAWN).write_text(json.dumps(drawn_))
    (work / COMMIT).write_text(json.dumps({"commit": "0123456789abcdef", "dirty": False}))
    keys = [f"airepair/metrics/m.py:{n}:{n}: + -> -" for n in (1, 2)]
    (work / RESULTS).write_text(
        json.dumps({"key": keys[0], "status": "killed", "by": "t", "tests": 1}) + "\n"
    )
    with pytest.raises(UsageError, match="1 of 2 mutants have not been tried"):
        write(work, out, 0)
    assert write(work, out, 0, so_far=True) == 1.0
    assert (
        "noticed 1, 100.0 %. The other 1 of the 2 drawn have not been tried."
        in (out / "score.md").read_text()
    )
    with (work / RESULTS).open("a") as file:
        file.write(json.dumps({"key": keys[1], "status": "survived", "by": "", "tests": 3}) + "\n")
    (out / "survivors.toml").write_text(f'"{keys[1]}" = "equal by construction"\n')
    assert write(work, out, 0) == 0.5
    page = (out / "score.md").read_text()
    assert "(commit 0123456789)" in page
    assert "noticed 1, 50.0 %.\n" in page
    assert f"| `{keys[1]}` | equal by construction |" in page
    assert "| metrics | 2 | 1 |" in page
    with (work / RESULTS).open("a") as file:
        file.write(json.dumps({"key": keys[1], "status": "killed", "by": "t", "tests": 3}) + "\n")
    assert write(work, out, 0) == 1.0
    assert "noticed 2, 100.0 %. 1 of them survived a first run" in (out / "score.md").read_text()


def test_a_new_folder_goes_on_from_a_committed_score_and_the_page_says_what_was_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the survivors that are named are tried; the page names them with the day and the commit."""
    drawn_ = [Mutant("airepair/metrics/m.py", n, n, n + 1, "-", "+ -> -") for n in (1, 2, 3)]
    monkeypatch.setattr(trial, "drawn", lambda *_: drawn_)
    monkeypatch.setattr(trial, "copied", lambda _, folder: folder)
    monkeypatch.setattr(trial, "preload", lambda: None)
    monkeypatch.setattr(trial, "commit", lambda: ("fedcba9876543210", False))
    monkeypatch.setattr(trial, "tried", lambda _t, _f, mutant, _c: Result(mutant.key, "killed", "t", 1))
    page, work = tmp_path / "page", tmp_path / "work"
    for folder in (page, work):
        folder.mkdir()
    keys = [m.key for m in drawn_]
    facts = {"commit": "0123456789abcdef", "dirty": False, "seed": 0, "drawn": 3, "late": 1}
    ends = [[keys[0], "killed", "t"], [keys[1], "survived", ""], [keys[2], "survived", ""]]
    (page / SCORE).write_text(json.dumps(facts | {"results": ends}))

    def again(*words: str) -> list[str]:
        found = run(tmp_path, work, Covered({}, {}), (3, 0), again=words, score=page / SCORE)
        return [result.key for result in found]

    with pytest.raises(UsageError, match=r"no mutant airepair/gone\.py"):
        again("airepair/gone.py")
    assert again("airepair/metrics/m.py:3:") == [keys[2]]
    assert again("airepair/metrics/m.py:3:") == []
    assert write(work, page, 0) == pytest.approx(2 / 3)
    text = (page / "score.md").read_text()
    assert "(commit 0123456789). The tests noticed 2, 66.7 %. 2 of them survived a first run" in text
    assert "(commit fedcba9876), and 1 of 1 noticed: `airepair/metrics/m.py:3`." in text
    shutil.rmtree(work)
    work.mkdir()
    assert again() == [keys[1]]
    assert write(work, page, 0) == 1.0
    runs = json.loads((page / SCORE).read_text())["again"]
    assert [run_["ended"] for run_ in runs] == [{keys[2]: "killed"}, {keys[1]: "killed"}]
    monkeypatch.setattr(trial, "drawn", lambda *_: drawn_[:2])
    shutil.rmtree(work)
    work.mkdir()
    with pytest.raises(UsageError, match="of another state of the code"):
        again()
