"""What `airepair list` and `airepair table` load and compute the second time: counted, not timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from airepair.cli import list as list_command
from airepair.cli.main import main
from airepair.records import append, scan
from airepair.report import pairs
from airepair.report.cells import grid
from airepair.report.table3 import questions
from tests.report_records import answered, record

ROOT = Path(__file__).parents[2]
SHOW = """
import json, sys
from airepair.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({"torch", "numpy", "scipy"} & set(sys.modules))]))
"""


def called(cache: Path, *words: str) -> tuple[str, list[str]]:
    """What a process of its own prints for a command, and which heavy libraries it has loaded."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIREPAIR_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *words], env=environment, capture_output=True, text=True, check=True
    )
    printed, _, last = done.stdout.rstrip("\n").rpartition("\n")
    code, loaded = json.loads(last)
    assert code == 0, done.stderr
    return printed, loaded


def test_methods_are_listed_without_loading_them_again(tmp_path: Path) -> None:
    """The first list makes the cards, from classes that need torch; the second prints the same without."""
    first, loaded = called(tmp_path, "list", "methods")
    assert "torch" in loaded
    second, loaded = called(tmp_path, "list", "methods")
    assert second == first
    assert "finetune  [control]" in second
    assert loaded == []


def test_a_changed_source_makes_the_cards_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cards are kept under the digest of the source; a name that is given is never kept."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path))
    made: list[str] = []
    real = list_command._card
    monkeypatch.setattr(list_command, "_card", lambda cls: (made.append(cls.__name__), real(cls))[1])
    assert main(["list", "methods"]) == 0
    once = len(made)
    assert main(["list", "methods"]) == 0
    assert len(made) == once > 20
    monkeypatch.setattr(list_command, "of_package", lambda: "another")
    assert main(["list", "methods"]) == 0
    assert len(made) == 2 * once
    assert main(["list", "methods", "finetune"]) == 0
    assert len(made) == 2 * once + 1
    assert "finetune" in capsys.readouterr().out


def write_records(file: Path) -> None:
    """Two methods, an ablation and their control at three seeds, with right answers."""
    index = np.arange(60)
    for seed in range(3):
        for k, method in enumerate(("finetune", "dl2", "dl2[weight_0]", "apricot")):
            right = index < 40 + 5 * k + seed
            found = record(f"digits-cnn-{method}-s{seed}", sources=("train", "failing"))
            append(file, answered(found, index, index < 40, right))


def test_a_table_is_printed_again_without_computing_its_comparisons(tmp_path: Path) -> None:
    """The first one computes them with numpy and scipy, the second prints the same and loads neither."""
    write_records(tmp_path / "records.jsonl")
    first, loaded = called(tmp_path / "cache", "table", str(tmp_path / "records.jsonl"))
    assert "scipy" in loaded
    second, loaded = called(tmp_path / "cache", "table", str(tmp_path / "records.jsonl"))
    assert second == first
    assert "Table III" in second
    assert loaded == []


def test_a_comparison_is_kept_under_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same records: nothing is computed, and the result is equal to the last digit. One answer
    more: that comparison is.
    """
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "cache"))
    pairs.kept_comparisons.cache_clear()
    write_records(tmp_path / "records.jsonl")
    records = scan([tmp_path / "records.jsonl"]).records
    first = questions(grid(records))
    kept = pairs.kept_comparisons(tmp_path / "cache")
    made = kept.made
    assert made > 0
    assert questions(grid(records)) == first
    assert kept.made == made
    pairs.kept_comparisons.cache_clear()
    assert questions(grid(records)) == first
    assert pairs.kept_comparisons(tmp_path / "cache").made == 0
    index = np.arange(60)
    changed = [
        answered(r, index, index < 40, index < 59) if r.key == "digits-cnn-dl2-s0" else r for r in records
    ]
    assert questions(grid(changed)) != first
    assert pairs.kept_comparisons(tmp_path / "cache").made > 0
    pairs.kept_comparisons.cache_clear()
