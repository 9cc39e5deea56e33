"""The overhead of a run: what counts as work, what counts as overhead, and a run of two cells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.errors import UsageError
from airepair.records import Record
from benchmarks.overhead import Overhead, overhead, page
from benchmarks.stages import STARTED, TRAINED, Span

ROOT = Path(__file__).parents[2]


def cell(process: int, seed: int, start: float, stages: dict[str, float]) -> list[Span]:
    """The stages of one cell, one after another."""
    spans = []
    for stage, seconds in stages.items():
        spans.append(Span(process, f"test_repair[digits-fc-finetune-s{seed}]", stage, start, seconds))
        start += seconds
    return spans


def record(seed: int, seconds: float) -> Record:
    """A repaired cell."""
    return Record(Case("digits", "fc", "finetune", seed), "repaired", cost={"seconds": seconds})


STAGES = {"spec": 0.5, "subject": 1.0, "prepared": 2.0, "repaired": 5.0, "result": 1.5}
SPANS = [
    Span(1, "", STARTED, 101.0, 2.0),
    Span(2, "", STARTED, 101.0, 3.0),
    *cell(1, 0, 104.0, STAGES),
    *cell(2, 1, 104.0, STAGES),
]


def test_work_is_repairs_and_exams_and_all_else_is_overhead() -> None:
    """Two workers from 100 to 120: each repairs for 4 s and examines for 3.5 s, so the ratio is 20 / 7.5.

    The parts add up to the wall time of both workers: nothing is left out and nothing counted twice.
    """
    found = overhead(SPANS, [record(0, 4.0), record(1, 4.0)], 100.0, 120.0)
    assert (found.workers, found.cells, found.repairs, found.exams) == (2, 2, 8.0, 7.0)
    assert found.ratio == pytest.approx(20 / 7.5)
    assert found.starting == pytest.approx(3.0 + 4.0)
    assert found.loading == pytest.approx(2.0)
    assert found.around == pytest.approx(2.0)
    parts = found.work + found.loading + found.around + found.starting + found.between + found.ending
    assert parts == pytest.approx(2 * 20.0)
    text = "\n".join(page(found, ["benchmarks"], {}))
    assert "**2.667**" in text
    assert "| repairs | 4.0 | 20.0 % |" in text


def test_training_a_subject_is_work_and_not_its_loading() -> None:
    """It happens while a subject is loaded, and once per column."""
    spans = [*SPANS, Span(1, "test_repair[digits-fc-finetune-s0]", TRAINED, 114.0, 0.75)]
    found = overhead(spans, [record(0, 4.0), record(1, 4.0)], 100.0, 120.0)
    assert (found.training, found.loading) == (0.75, pytest.approx(1.25))
    assert found.ratio == pytest.approx(40 / 15.75)


def test_a_cell_without_a_record_and_a_run_without_a_repair_are_errors() -> None:
    """Missing seconds would make the ratio look worse or better than it is."""
    with pytest.raises(UsageError, match="digits-fc-finetune-s1 ran and has no record"):
        overhead(SPANS, [record(0, 4.0)], 100.0, 120.0)
    with pytest.raises(UsageError, match="no cell was repaired"):
        overhead(SPANS[:2], [], 100.0, 120.0)
    assert Overhead(1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0).ratio == float("inf")


@pytest.mark.slow
def test_two_cells_are_measured(tmp_path: Path) -> None:
    """The command runs the suite, prints the ratio and its parts, and its exit code says whether the
    ratio is small enough: with cells of milliseconds it is not, with a limit of a thousand it is.
    """
    words = [
        "benchmarks",
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        "noop,memit",
        "--seeds",
        "0",
        "--no-ablations",
        "-q",
    ]
    line = [sys.executable, "-m", "benchmarks.overhead", "--out", str(tmp_path / "page.md")]
    environment = {**os.environ, "AIREPAIR_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for most, code in (("1000", 0), ("1", 1)):
        done = subprocess.run(
            [*line, "--most", most, "--", *words, "-n", "1"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert (tmp_path / "page.md").read_text() in done.stdout
    text = (tmp_path / "page.md").read_text()
    assert "2 cells, 1 workers" in text
    assert "| training of subjects | 0.0 |" in text  # the first run left it in the cache
