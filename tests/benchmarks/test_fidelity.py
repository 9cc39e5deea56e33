"""The table of the kinds of files that people bring, and the walk through each of them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from airepair.formats.fidelity import Fidelity
from benchmarks.fidelity import kinds
from benchmarks.fidelity import table as fidelity_table

NEEDS = {
    "Keras": ("keras", "h5py", "mmdnn"),
    "TensorFlow": ("tensorflow", "mmdnn"),
    "ONNX": ("onnx", "onnx2torch"),
    "torch": (),
}
QUICK = ("28 x 28", "counters", "channels last")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, id=k.about, marks=() if k.about.startswith(QUICK) else pytest.mark.slow)
        for k in kinds.kinds()
    ],
)
def test_every_kind_is_read_repaired_and_comes_back(tmp_path: Path, kind: kinds.Kind) -> None:
    """In its own format, with its own input and its own layers, as the repaired network."""
    missing = [name for name in NEEDS[kind.framework] if find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    row = kinds.measure(kind, tmp_path)
    assert row.error == ""
    assert row.repaired == kinds.TO_REPAIR
    assert all(f is None or f.faithful for f in (row.read, row.back))
    assert (row.read is None) == (row.back is None) == (kind.framework == "torch")


def test_rows_are_put_into_a_page_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row replaces the one of its kind, the others stay, in the order of the kinds; what is wrong
    ends in exit code 1.
    """
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\n".join(fidelity_table.KIND_MARKS) + "\nafter\n")
    good, unfaithful = Fidelity(0.0, 1.0, 256, 1e-4), Fidelity(1.0, 0.5, 256, 1e-4)
    names = [(k.framework, k.about) for k in kinds.kinds()]
    rows = [
        kinds.Row(*names[3], "keras", "784", good, 16, good),
        kinds.Row(*names[0], "keras", "784", unfaithful, 12, None),
    ]
    fidelity_table.into(
        page, [kinds.line(r, fidelity_table.shown) for r in rows], fidelity_table.kinds_table()
    )
    fidelity_table.into(
        page,
        [kinds.line(kinds.Row(*names[3], error="no such file"), fidelity_table.shown)],
        fidelity_table.kinds_table(),
    )
    lines = [line for line in page.read_text().splitlines() if line.startswith(f"| {names[0][0]}")]
    assert lines == [
        f"| {names[0][0]} | {names[0][1]} | keras | 784 | **1.0e+00**, arg-max 0.500 | 12 of 16 | as it is |",
        f"| {names[3][0]} | {names[3][1]} | no such file | | | | |",
    ]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert fidelity_table.main(["--kinds", "--only", "nobody"]) == 2
    assert "no kind has 'nobody' in it" in capsys.readouterr().err
