"""One cell through every door gives one record: the fixtures, `airepair repair`, `airepair tune`,
`--testonly`, `run_cell` itself.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airepair.case import Case
from airepair.cli.main import main
from airepair.cli.tuning.trial import Bench, try_out
from airepair.engines.command import Cells
from airepair.records import Record, read
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loader
from airepair.runner.run import run_cell
from airepair.runner.specify import Shared, cell_spec, chosen_options

ROOT = Path(__file__).parents[2]
CASE = Case("digits", "fc", "finetune", 0)
TIMES = ("cost", "phases", "curve")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines that all doors share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def direct(cache: Path) -> Record:
    """The record of run_cell."""
    return run_cell(spec_of(Shared(keep_weights=True)), cache=cache).record


def spec_of(shared: Shared) -> CellSpec:
    """The cell as every door specifies it."""
    return cell_spec(shared, CASE, chosen_options(CASE, CASE.model, shared.profile_of(CASE.dataset), {}))


def without_times(record: Record) -> dict[str, Any]:
    """What must be equal: all but the clock, the memory, and the time of day."""
    found = json.loads(record.to_json())
    found["phases"] = [{k: v for k, v in phase.items() if k != "seconds"} for phase in found["phases"]]
    found.pop("cost")
    found["provenance"].pop("time")
    return found


def test_the_suite_gives_the_record_of_run_cell(
    direct: Record, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest's fixtures are the stages of run_cell, and no second assembly."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(cache))
    words = [
        "benchmarks",
        "-q",
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        "finetune",
        "--seeds",
        "0",
        "--device",
        "cpu",
    ]
    words.append("--native")  # as this process, where torch was loaded before
    subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--out", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert without_times(read([tmp_path])[0][0]) == without_times(direct)


def test_airepair_repair_gives_the_record_of_run_cell(
    direct: Record, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's command line, too, attacks where the profile does."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(cache))
    words = [
        "--method",
        "finetune",
        "--dataset",
        "digits",
        "--net_arch",
        "fc",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["repair", *words]) == 0
    assert without_times(read([tmp_path / "run"])[0][0]) == without_times(direct)
    assert "pgd_accuracy" in direct.after


def test_a_spec_survives_its_way_through_json(direct: Record, cache: Path) -> None:
    """What travels to another machine runs there as here."""
    spec = CellSpec.from_json(spec_of(Shared(keep_weights=True)).to_json())
    assert without_times(run_cell(spec, cache=cache).record) == without_times(direct)


def test_a_spec_that_names_no_architecture_is_read() -> None:
    """As specs were written before: the case's own model is meant."""
    written = json.loads(CellSpec(CASE, "smoke").to_json())
    del written["architecture"]
    assert CellSpec.from_json(json.dumps(written).encode()).settings_model == CASE.model


def test_tune_examines_validation_alone(direct: Record, cache: Path, tmp_path: Path) -> None:
    """The same repair, bit for bit, and no number of a test image in its record."""
    bench = Bench("digits", "fc", (0,), Shared(splits="validation"), Loader(cache), Cells(cache))
    (record,) = try_out(bench, "finetune", 0, {}, tmp_path, {}).records
    assert record.subject["repaired_weights"] == direct.subject["repaired_weights"]
    assert record.provenance["examined"] == "validation"
    assert record.after["accuracy"] == direct.subject["repaired_validation_accuracy"]
    assert record.provenance["n"]["test"] == record.provenance["n"]["validation"]


def test_testonly_examines_the_subject_of_the_cell(
    direct: Record, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are the record's before, and nothing is repaired."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(cache))
    assert main(["repair", "--testonly", "--dataset", "digits", "--net_arch", "fc", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    rows: Mapping[str, str] = dict(
        line.rsplit(None, 1) for line in printed.splitlines() if "accuracy" in line and line[:1] == "a"
    )
    assert f"{direct.before['accuracy']:.4f}" in printed
    assert f"{direct.before['pgd_accuracy']:.4f}" in rows.get("accuracy under PGD", printed)


@pytest.mark.parametrize("door", ["grid", "repair", "tune"])
def test_every_door_has_one_profile_for_a_data_set(door: str) -> None:
    """`digits+fog3` is digits: the rule stands once."""
    shared = {"grid": Shared(), "repair": Shared(models=True), "tune": Shared(splits="validation")}[door]
    assert shared.profile_of("digits+fog3") == "smoke"


def test_predictions_of_a_cell_are_bytes(cache: Path) -> None:
    """A result holds its files: it can be filed by another process."""
    import io

    result = run_cell(spec_of(Shared(keep_weights=True)), cache=cache)
    arrays = np.load(io.BytesIO(result.files["predictions.npz"]))
    assert float((arrays["after"] == arrays["label"]).mean()) == pytest.approx(
        result.record.after["accuracy"]
    )
    assert {"log.txt", "curve.jsonl", "cost.jsonl", "repaired.safetensors"} <= result.files.keys()
