"""Names to things: built-in lines, installed packages, and `package.module:Class`; a broken plug-in
does not stop the others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airepair.cli.main import main
from airepair.errors import UsageError
from airepair.methods import METHODS, build
from airepair.metrics import broken, entries

METHOD = '''
"""shift: adds a constant to the first bias. Made for this test."""
from dataclasses import dataclass
from typing import ClassVar
from airepair.options import option
from airepair.types import Category, Task

@dataclass(frozen=True)
class Shift:
    """Shifts."""
    name: ClassVar[str] = "shift"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "made for this test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {"less": {"by": 0.4}}
    by: float = option(0.5, "how far", low=0.0, high=2.0)

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task):
        return task.module

class Plain:
    name = "plain"
'''
POINTS = """[airepair.methods]
shift = outsider:Shift
torn = outsider_torn:Torn
leaving = outsider_leaving:Leaving
plain = outsider:Plain
noop = outsider:Shift

[airepair.metrics]
distance = outsider_metric:ENTRY
torn_metric = outsider_torn:ENTRY
raising = outsider_metric:RAISING
excess = outsider_metric:EXCESS
accuracy = outsider_metric:ENTRY
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like site-packages with one distribution: a sound method and metric, and
    torn ones.
    """
    info = tmp_path / "outsider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "outsider.py").write_text(METHOD)
    (tmp_path / "outsider_leaving.py").write_text("import sys\nsys.exit('it leaves')\n")
    (tmp_path / "outsider_torn.py").write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "outsider_metric.py").write_text(
        "from airepair.metrics import Entry\n"
        "ENTRY = Entry('outsider_metric:distance', 'distance', 'value', 'none', 'this test')\n"
        "def distance(before, after):\n    return 1.0\n"
        "RAISING = Entry('outsider_metric:raising', 'raising', 'value', 'none', 'this test')\n"
        "def raising(before, after):\n    raise KeyError('nothing of that name')\n"
        "EXCESS = Entry('outsider_metric:excess', 'excess', 'share', 'none', 'this test')\n"
        "def excess(before, after):\n    return -0.01\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("outsider", "outsider_torn", "outsider_metric", "outsider_leaving"):
        sys.modules.pop(name, None)


def test_an_installed_method_has_its_name(installed: Path):
    """The entry point `airepair.methods` makes it one of the methods, with checked options."""
    assert "shift" in METHODS.names()
    assert build("shift", {"by": "1.5"}).by == 1.5
    with pytest.raises(UsageError, match=r"shift.by=3.0 is out of range; accepted: 0.0..2.0"):
        build("shift", {"by": 3})


def test_a_built_in_name_cannot_be_taken(installed: Path):
    """The package's `noop` is ignored."""
    assert METHODS.get("noop").__module__ == "airepair.methods.noop"


def test_a_class_by_hand_needs_no_installation(installed: Path):
    """`module:Class` is enough, also in a combination."""
    assert build("outsider:Shift", {}).name == "shift"
    assert METHODS.get("outsider:Shift+noop").name == "shift+noop"


def test_a_torn_plug_in_is_reported_and_does_not_stop_the_others(installed: Path):
    """Method and metric that cannot be imported are named with the reason; the sound ones work."""
    assert "a_package_that_is_not_installed" in METHODS.broken()["torn"]
    assert "shift" not in METHODS.broken()
    assert entries()["distance"].title == "distance"
    assert list(broken()) == ["accuracy (outsider_metric:ENTRY)", "torn_metric"]
    assert "SystemExit: it leaves" in METHODS.broken()["leaving"]
    assert "Plain is not a frozen dataclass" in METHODS.broken()["plain"]
    assert "the name is this project's own" in METHODS.broken()["noop of outsider"]
    with pytest.raises(UsageError, match=r"'torn' .*cannot be imported: ModuleNotFoundError"):
        METHODS.get("torn")


def test_a_metric_that_raises_is_missing_with_its_reason_and_the_others_are_there(installed: Path):
    """One package's fault costs one number, not the cell."""
    from airepair.case import Case
    from airepair.testing import toy
    from airepair.testing.cells import prepare

    ready = prepare(Case("toy", "mlp", "noop", 0), toy.subject(), build("noop", {}))
    assert ready.missing["raising"] == "outsider_metric:raising raises KeyError: 'nothing of that name'"
    assert ready.scores["distance"] == 1.0
    assert "accuracy" in ready.scores


def test_a_metric_outside_its_range_is_missing_and_the_record_can_be_read(installed: Path):
    """A share of -0.01 has its value as the reason."""
    from airepair.case import Case
    from airepair.records import Record
    from airepair.testing import toy
    from airepair.testing.cells import prepare, run

    record = run(prepare(Case("toy", "mlp", "noop", 0), toy.subject(), build("noop", {}))).record
    assert record.missing["excess"] == "out of its range (-0.01; accepted: 0..1)"
    assert "excess" not in record.before | record.after
    assert Record.from_json(record.to_json()) == record


def test_every_method_is_every_one_that_imports(installed: Path, capsys: pytest.CaptureFixture[str]):
    """`airepair repair --all` leaves the torn ones out and says so."""
    from airepair.cli.repair.request import every_method

    found = every_method()
    assert "shift" in found
    assert not {"torn", "leaving", "plain"} & set(found)
    assert "left out: method 'torn'" in capsys.readouterr().err


def test_the_list_shows_the_sound_and_names_the_torn(installed: Path, capsys: pytest.CaptureFixture[str]):
    """`airepair list methods` goes on past a plug-in that cannot be imported."""
    assert main(["list", "methods"]) == 0
    out, err = capsys.readouterr()
    assert "shift  [direct weight modification]  made for this test" in out
    assert "by                 0.5            float in 0..2: how far" in out
    assert "'torn'" in err
    assert "Traceback" not in out + err


def test_the_list_shows_every_built_in_method_with_its_options(capsys: pytest.CaptureFixture[str]):
    """Name, category, paper, and options with default, type, range, and the range that is tuned over."""
    assert main(["list", "methods", "finetune"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("finetune  [control]  control")
    assert "epochs" in out
    assert "int in 2..inf" in out
    assert "; tuned over 0.0001..0.3, logarithmic" in out
    assert "; tuned over 32, 64, 128, 256" in out


@pytest.mark.parametrize("what", ["models", "datasets", "metrics", "faults"])
def test_every_kind_can_be_listed(what: str, capsys: pytest.CaptureFixture[str]):
    """Each list names something that is built in."""
    known = {
        "models": "digits/cnn",
        "datasets": "digits",
        "metrics": "generalisation",
        "faults": "mislabelled",
    }
    assert main(["list", what]) == 0
    assert known[what] in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    """One line and exit code 2."""
    assert main(["list", "methods", "finetun"]) == 2
    assert "did you mean 'finetune'?" in capsys.readouterr().err


def test_methods_load_without_the_slow_parts_of_scipy() -> None:
    """Every worker and every cell's process would wait most of a second for what few methods use."""
    code = (
        "import sys; from airepair.methods import METHODS; found = list(map(METHODS.get, METHODS.builtin)); "
        "print(len(found) > 20, *{'scipy.stats', 'scipy.optimize'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
