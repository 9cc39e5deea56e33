"""The walk through files of other people: a small one of our own always, theirs where they are there."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from airepair import data
from airepair.errors import Unavailable, UsageError
from airepair.models import build
from airepair.subjects.recipes import training_of
from airepair.training.best_state import fit
from benchmarks import cases

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def rows(marks: tuple[str, str]) -> dict[str, list[str]]:
    """File -> the other cells of its row in the page."""
    inside = PAGE.read_text(encoding="utf-8").partition(marks[0])[2].partition(marks[1])[0]
    found = [line.strip("| ").split(" | ") for line in inside.splitlines() if line.startswith("| ")][2:]
    return {cells[0]: cells[1:] for cells in found}


def test_the_page_has_a_row_for_every_case() -> None:
    """Every network came back as it was repaired, and read as it is; every data set is read, but
    the one that is to be refused.
    """
    networks, sets = rows(cases.MARKS), rows(cases.SET_MARKS)
    assert list(networks) == list(cases.NETWORKS)
    assert list(sets) == list(cases.SETS)
    assert len(networks) + len(sets) == 15
    for cells in networks.values():
        assert len(cells) == 7
        assert cells[4].endswith(f"-> {cells[6]}")
    assert [name for name, cells in sets.items() if cells[1].startswith("refused")] == ["dupclasses.npz"]


def test_a_network_is_walked_as_a_user_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examined, repaired, written back, and examined again: the file that came back scores what the
    record says.
    """
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "cache"))
    digits = data.load("digits", seed=0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = build("fc", "digits", 10, digits.shape)
        fit(module, digits.train, None, training_of("digits", "fc").recipe, torch.Generator().manual_seed(0))
    torch.save(
        {"state_dict": module.state_dict(), "arch": "fc", "trained_on": "split of seed 0"},
        tmp_path / "mine.pt",
    )
    found = cases.walk(tmp_path / "mine.pt", "digits", tmp_path)
    assert found.good, found.error
    assert cases.line(found).endswith(f"| as it is | {found.again:.4f} |")
    assert cases.walk(tmp_path / "none.pt", "digits", tmp_path).error.startswith("exit code 2: airepair: ")


def test_a_warning_of_a_library_is_an_error_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are to see none."""

    def warning(words: list[str]) -> int:
        import sys

        print("lib/site-packages/keras/x.py:3: UserWarning: of its own affairs", file=sys.stderr)
        return 0

    monkeypatch.setattr(cases, "airepair", warning)
    with pytest.raises(UsageError, match="UserWarning"):
        cases._output_of(["repair"])


def test_a_data_set_is_read_or_refused_in_a_row(tmp_path: Path) -> None:
    """Its classes, the shape of an image, the numbers of images."""
    x, y = np.zeros((20, 6, 5), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, classes=["a", "a"])
    assert cases.set_line(tmp_path / "a.npz", "npz") == "| a.npz | npz | 2 classes, 1x6x5, 20 + 0 images |"
    assert cases.set_line(tmp_path / "b.npz", "npz").startswith(
        "| b.npz | npz | refused: class 'a' appears 2 times"
    )


@pytest.mark.slow
def test_the_files_themselves_give_the_page_s_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracies to the last digit: AIREPAIR_CASES names the folder of the files, and MNIST is there."""
    folder = os.environ.get("AIREPAIR_CASES")
    if not folder:
        pytest.skip("AIREPAIR_CASES names no folder of the cases, which are not redistributed here")
    try:
        data.whole("mnist")
    except Unavailable as error:
        pytest.skip(str(error))
    assert cases.main([folder]) == 0
    printed = capsys.readouterr().out
    for name, cells in rows(cases.MARKS).items():
        (line,) = re.findall(rf"^\| {re.escape(name)} \|.*", printed, re.MULTILINE)
        assert line.split(" | ")[2] == cells[1]
    for name, cells in rows(cases.SET_MARKS).items():
        assert f"| {name} | {cells[0]} | {cells[1]} |" in printed
