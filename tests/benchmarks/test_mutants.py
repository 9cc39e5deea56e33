"""The mutation run: what counts as a mutant, which tests it gets, and how it ends."""

import json
from pathlib import Path

import pytest

from airepair.errors import UsageError
from benchmarks.mutants.covering import BUDGET, Covered
from benchmarks.mutants.mutate import Mutant, mutants
from benchmarks.mutants.page import write
from benchmarks.mutants.scope import drawn, everything
from benchmarks.mutants.trial import DRAWN, RESULTS, tried

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


def test_a_mutant_gets_the_tests_of_its_line_its_own_file_first_within_the_budget() -> None:
    """A line that runs on import gets those of the whole file."""
    known = Covered(
        {"a/m.py": {3: ["t/test_x.py::b", "t/test_m.py::a", ""], 4: ["t/test_x.py::c"]}},
        {"t/test_x.py::b": BUDGET},
    )
    at = {line: known.of(Mutant("a/m.py", line, 0, 1, "", "")) for line in (3, 4, 9)}
    assert at == {3: ["t/test_m.py::a"], 4: ["t/test_x.py::c"], 9: ["t/test_m.py::a", "t/test_x.py::c"]}


@pytest.mark.parametrize(("sign", "status"), [("-", "killed"), ("+ 0 +", "survived")])
def test_a_mutant_ends_by_its_tests_and_the_file_is_put_back(tmp_path: Path, sign: str, status: str) -> None:
    """Found out by the test that fails; a survivor if all pass."""
    tree = tmp_path / "tree"
    tree.mkdir()
    source = "def f(x):\n    return x + 1\n"
    (tree / "m.py").write_text(source)
    (tree / "test_m.py").write_text("from m import f\n\ndef test_f():\n    assert f(1) == 2\n")
    mutant = Mutant("m.py", 2, source.index("+"), source.index("+") + 1, sign, f"+ -> {sign}")
    result = tried(tree, tmp_path, mutant, Covered({"m.py": {2: ["test_m.py::test_f"]}}, {}))
    assert (result.status, result.by) == (status, "test_m.py::test_f" if status == "killed" else "")
    assert (tree / "m.py").read_text() == source


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
    keys = [f"airepair/metrics/m.py:{n}:{n}: + -> -" for n in (1, 2)]
    (work / RESULTS).write_text(
        json.dumps({"key": keys[0], "status": "killed", "by": "t", "tests": 1}) + "\n"
    )
    with pytest.raises(UsageError, match="1 of 2 mutants have not been tried"):
        write(work, out, 0)
    with (work / RESULTS).open("a") as file:
        file.write(json.dumps({"key": keys[1], "status": "survived", "by": "", "tests": 3}) + "\n")
    (out / "survivors.toml").write_text(f'"{keys[1]}" = "equal by construction"\n')
    assert write(work, out, 0) == 0.5
    page = (out / "score.md").read_text()
    assert "noticed 1, 50.0 %" in page
    assert f"| `{keys[1]}` | equal by construction |" in page
    assert "| metrics | 2 | 1 |" in page
