"""A method that misbehaves costs its own cell only: its record says what it did, and the cell after
it has the right number.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from airepair.case import Case
from airepair.cli.tuning.trial import Bench, try_out
from airepair.engines.command import Cells
from airepair.records import Record, read
from airepair.runner.loading import Loader
from airepair.runner.run import run_cell
from airepair.runner.specify import Shared, cell_spec
from airepair.settings import Chosen
from tests.bad_methods import KINDS

ROOT = Path(__file__).parents[2]
SHORT = {"epochs": 2}
RunOne = Callable[[str, dict[str, int]], Record]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One baseline for all workers of this test run."""
    folder = tmp_path_factory.getbasetemp().parent / "bad-methods-cache"
    with FileLock(f"{folder}.lock"):
        run_cell(cell_spec(Shared(), Case("digits", "fc", "noop", 0), Chosen({}, {})), cache=folder)
    return folder


@pytest.fixture(scope="module")
def right(cache: Path) -> dict[str, str]:
    """The digest of the repaired weights of a cell that follows no bad one, by what is examined."""
    found = {}
    for splits in ("test", "validation"):
        spec = cell_spec(Shared(splits=splits), Case("digits", "fc", "finetune", 0), Chosen(SHORT, {}))  # type: ignore[arg-type]
        found[splits] = run_cell(spec, cache=cache).record.subject["repaired_weights"]
    return found


@pytest.fixture(scope="module", params=["run_cell", "tune"])
def door(
    request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, RunOne]:
    """What is examined, and how one cell is run in this process, all with one loader."""
    loader, out = Loader(cache), tmp_path_factory.mktemp("trials")

    def straight(method: str, options: dict[str, int]) -> Record:
        spec = cell_spec(Shared(), Case("digits", "fc", method, 0), Chosen(options, {}))
        return run_cell(spec, cache=cache, load=loader).record

    def trial(method: str, options: dict[str, int]) -> Record:
        here = Cells(cache, isolate=False)
        bench = Bench("digits", "fc", (0,), Shared(splits="validation"), loader, here)
        return try_out(bench, method, 1, options, out, {}).records[0]

    return ("test", straight) if request.param == "run_cell" else ("validation", trial)


def check(record: Record, kind: str) -> None:
    """The record of a kind of misbehaviour is what the table says, and can be written."""
    _, status, words = KINDS[kind]
    said = " ".join([record.reason, *record.notes])
    assert (record.status, words in said) == (status, True), f"{record.status}: {said}"
    assert record.before["accuracy"] > 0.5
    assert bool(record.after) == (status == "repaired")
    assert Record.from_json(record.to_json()) == Record.from_json(
        Record.from_json(record.to_json()).to_json()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_method_costs_its_own_cell_only(
    kind: str, door: tuple[str, RunOne], right: dict[str, str]
) -> None:
    """Its record has the status and the words; the next cell of the same process is bit-equal to
    one that follows nothing.
    """
    splits, run = door
    check(run(f"tests.bad_methods:{kind}", {}), kind)
    after = run("finetune", SHORT)
    assert after.status == "repaired", after.reason
    assert after.subject["repaired_weights"] == right[splits]
    assert not [note for note in after.notes if "put back" in note]


ALL = ",".join(f"tests.bad_methods:{kind}" for kind in KINDS)
SET = ["--native", "--set", "finetune.epochs=2"]  # the arithmetic of this process, for equal numbers


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_grid_has_a_record_for_every_bad_method(
    workers: str, cache: Path, right: dict[str, str], tmp_path: Path
) -> None:
    """Serially and under xdist: none is missing, and the honest cells at both ends have the right number."""
    words = [
        "benchmarks",
        "-q",
        "-n",
        workers,
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        f"noop,{ALL},finetune",
        "--seeds",
        "0",
    ]
    run([*("-m", "pytest"), *words, *SET, "--device", "cpu", "--out", str(tmp_path)], cache, codes=(1,))
    found = {r.case.method: r for r in read([tmp_path])[0]}
    for kind in KINDS:
        check(found[f"tests.bad_methods:{kind}"], kind)
    assert found["finetune"].subject["repaired_weights"] == right["test"]
    assert "tests.bad_methods:note_number" in (tmp_path / "table1.txt").read_text()


@pytest.mark.slow
def test_airepair_repair_has_a_record_for_every_bad_method(
    cache: Path, right: dict[str, str], tmp_path: Path
) -> None:
    """The paper's command line goes through the same door."""
    words = [
        "repair",
        "--dataset",
        "digits",
        "--net_arch",
        "fc",
        "--method",
        f"{ALL},finetune",
        *SET,
        "--device",
        "cpu",
    ]
    run(["-m", "airepair", *words, "--out", str(tmp_path / "run")], cache, codes=(1,))
    found = {r.case.method: r for r in read([tmp_path / "run"])[0]}
    for kind in KINDS:
        check(found[f"tests.bad_methods:{kind}"], kind)
    assert found["finetune"].subject["repaired_weights"] == right["test"]


def run(words: list[str], cache: Path, codes: tuple[int, ...]) -> None:
    """A command of this interpreter in the checkout."""
    import os

    surroundings = {**os.environ, "AIREPAIR_CACHE": str(cache), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in codes, done.stdout[-3000:] + done.stderr[-3000:]
