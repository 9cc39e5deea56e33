"""The suite as a user runs it: `pytest benchmarks` in a process of its own, with and without xdist."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from airepair.case import Case, with_variant
from airepair.methods import METHODS
from airepair.records import read
from airepair.records.fingerprint import PARTS
from airepair.suite.live.state import grid_of, working
from benchmarks import grid

ROOT = Path(__file__).parents[2]
SMALL = [
    "--no-ablations",
    "--dataset",
    "digits",
    "--model",
    "fc",
    "--set",
    "finetune.epochs=3",
    "--set",
    "apricot.submodels=3",
    "--set",
    "apricot.further_epochs=1",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of baselines for the module."""
    return tmp_path_factory.mktemp("cache")


def suite(
    out: Path, *words: str, cache: Path | None = None, data: Path | None = None, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """`pytest benchmarks` with the given words."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {
        "AIREPAIR_CACHE": str(cache or out / "cache"),
        "AIREPAIR_DATA": str(data or out / "no-data"),
        "COLUMNS": "140",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "benchmarks",
        "-p",
        "no:cacheprovider",
        "--device",
        "cpu",
        "--out",
        str(out),
        *words,
    ]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
import pytest
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = pytest.main(words)
    print(json.dumps([int(code), out.getvalue(), err.getvalue()]))
"""


def suites(out: Path, runs: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """`suite` for runs that end before the first cell, all in one process: torch and the methods
    are imported once.
    """
    words = [
        ["benchmarks", "-p", "no:cacheprovider", "--device", "cpu", "--out", str(out), *run] for run in runs
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {
        "AIREPAIR_CACHE": str(out / "cache"),
        "AIREPAIR_DATA": str(out / "no-data"),
        "COLUMNS": "140",
    }
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER]
    done = subprocess.run(
        command,
        input=json.dumps(words),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [subprocess.CompletedProcess(w, *line) for w, line in zip(words, lines, strict=True)]


def collected(text: str) -> list[str]:
    """The ids of the cells that a run with --collect-only lists."""
    return re.findall(r"test_repair\[(.+)\]$", text, re.MULTILINE)


def table(out: Path) -> str:
    """Table I as it was written; a commit between two runs is no difference between them."""
    return re.sub(r"commit\s+\w+(\s+\(dirty\))?", "commit", (out / "table1.txt").read_text())


TWO = [*SMALL, "--method", "noop,random"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run of TWO at seed 90; a test that goes on with it takes a copy."""
    folder = tmp_path_factory.mktemp("ran")
    suite(folder, *TWO, "--seeds", "90", cache=cache)
    return folder


def test_two_workers_give_the_table_of_a_serial_run_byte_by_byte(tmp_path: Path, cache: Path) -> None:
    """The same scores, the same Table I; pytest-benchmark's JSON has every cell under xdist, too."""
    words = [
        *SMALL,
        "--method",
        "noop,finetune,apricot",
        "--seeds",
        "90,91",
        "-k",
        "not failing+",
    ]  # the control on its own sources alone
    runs = {}
    for name, extra in (("serial", []), ("parallel", ["-n", "2"])):
        out = tmp_path / name
        result = suite(out, *words, *extra, "--benchmark-json", str(tmp_path / f"{name}.json"), cache=cache)
        assert result.returncode == 0, result.stdout + result.stderr
        runs[name] = table(out)
        assert "airepair: the verdict" in result.stdout
        assert "airepair: profile smoke (digits" in result.stdout
        whole = grid_of(out)
        assert whole is not None
        assert (whole.passed, whole.remaining, whole.ended is not None, working(out)) == (
            len(read([out])[0]),
            0,
            True,
            [],
        )
        assert str(out / "records.jsonl") in result.stdout
        found = json.loads((tmp_path / f"{name}.json").read_text())["benchmarks"]
        assert len(found) == len(read([out])[0]) >= 6
        assert all(b["stats"]["rounds"] == 1 for b in found)
    assert runs["serial"] == runs["parallel"]
    scores = [{r.key: dict(r.after) for r in read([tmp_path / n])[0]} for n in runs]
    assert scores[0] == scores[1]


def test_a_worker_killed_in_mid_cell_is_recorded_and_the_run_goes_on(tmp_path: Path, cache: Path) -> None:
    """The crashed cell has a record with its scores before; the other cells are repaired."""
    result = suite(
        tmp_path,
        *SMALL,
        "--method",
        "noop,random,tests.suicidal:Suicidal",
        "--no-isolate",
        "--seeds",
        "90,91",
        "-n",
        "2",
        cache=cache,
    )
    records = {r.key: r for r in read([tmp_path])[0]}
    crashed = records["digits-fc-tests.suicidal:Suicidal-s90"]
    assert crashed.status == "crashed"
    assert 0.5 < crashed.before["accuracy"] < 1
    assert sorted(r.status for r in records.values()) == ["crashed"] * 2 + ["repaired"] * 4
    assert result.returncode == 1
    assert "crashed" in table(tmp_path)


def test_an_interrupted_grid_resumes(tmp_path: Path, cache: Path, ran: Path) -> None:
    """With --resume finished cells stand and only the others run; without it the old records are
    set aside, not lost.
    """
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    result = suite(tmp_path, *TWO, "--seeds", "90,91", "--resume", cache=cache)
    assert re.search(r"2 passed, 2 skipped", result.stdout), result.stdout
    assert len(read([tmp_path / "records.jsonl"])[0]) == 4
    suite(tmp_path, *TWO, "--seeds", "91", cache=cache)
    assert len(read([tmp_path / "records.jsonl"])[0]) == 2
    assert len(list((tmp_path / "previous").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("extra", [[], pytest.param(["-n", "1"], marks=pytest.mark.slow)])
def test_a_run_without_a_cell_leaves_the_records_alone(tmp_path: Path, extra: list[str]) -> None:
    """`pytest tests` loads the suite's plugins in a checkout: it neither sets records aside nor
    writes a table.
    """
    (tmp_path / "records.jsonl").write_text("as they were\n")
    result = suite(tmp_path, "--deselect", "benchmarks", "tests/test_case.py", "-q", *extra)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["records.jsonl"]
    assert (tmp_path / "records.jsonl").read_text() == "as they were\n"
    assert "Table I" not in result.stdout


def test_by_default_only_digits_is_selected_and_the_rest_is_counted(tmp_path: Path) -> None:
    """All cells are collected; `pytest benchmarks` alone runs the two digits networks on five
    seeds, with every ablation and control.
    """
    result = suite(tmp_path, "--collect-only", "-q")
    cells = collected(result.stdout)
    assert {c.rpartition("-")[2] for c in cells} == {"s0", "s1", "s2", "s3", "s4"}
    assert {"-".join(c.split("-")[:2]) for c in cells} == {"digits-cnn", "digits-fc"}
    wanted = {with_variant(m, v) for m in grid.methods() for v in ("", *METHODS.get(m).ablations)}
    wanted |= {
        "finetune[failing+passing]",
        "finetune[failing+passing+train]",
        "finetune[failing+train+unlabelled]",
    }
    assert {Case.parse(c).method for c in cells} == wanted
    assert "deselected" in result.stdout


SELECTIONS: list[tuple[list[str], set[str]]] = [
    (["-k", "digits-fc- and apricot[random_sets]"], {"digits-fc-apricot[random_sets]-s0"}),
    (["-k", "digits-fc- and finetune[failing+passing]"], {"digits-fc-finetune[failing+passing]-s0"}),
    (["-k", "mnist-fc- and not fashion and apricot"], {"mnist-fc-apricot-s0"}),
    (
        ["-k", "mnist-fc- and not fashion and apricot", "--ablations"],
        {"mnist-fc-apricot-s0", "mnist-fc-apricot[random_sets]-s0", "mnist-fc-apricot[swapped_sets]-s0"},
    ),
    (["-k", "digits-fc- and apricot", "--no-ablations"], {"digits-fc-apricot-s0"}),
    (["-k", "digits-fc-finetune and tuned", "--auto"], {"digits-fc-finetune[tuned]-s0"}),
    (
        ["--method", "irepair[gamma_0],noop", "--dataset", "mnist", "--model", "fc"],
        {"mnist-fc-irepair[gamma_0]-s0", "mnist-fc-noop-s0"},
    ),
    (
        ["--method", "finetune[tuned]", "--dataset", "digits", "--model", "fc"],
        {"digits-fc-finetune[tuned]-s0"},
    ),
    (
        ["-m", "cell(dataset='digits', model='fc', method='prdnn', variant='coupled')"],
        {"digits-fc-prdnn[coupled]-s0"},
    ),
    (
        ["--dataset", "digits+fog3", "--model", "fc", "--method", "finetune"],
        {
            f"digits+fog3-fc-{with_variant('finetune', v)}-s0"
            for v in (
                "",
                "environment+failing+train",
                "failing+passing",
                "failing+passing+train",
                "failing+train+unlabelled",
            )
        },
    ),
]


def test_variants_are_selected_by_name(tmp_path: Path) -> None:
    """Ablations run for digits unless switched off, elsewhere if asked for; -k, --method and the
    marker take their names.
    """
    results = suites(tmp_path, [["--collect-only", "-q", "--seeds", "0", *words] for words, _ in SELECTIONS])
    found = [
        (words, set(collected(result.stdout))) for (words, _), result in zip(SELECTIONS, results, strict=True)
    ]
    assert found == SELECTIONS


def test_profile_digits_adds_faults_and_tuned_rows(tmp_path: Path) -> None:
    """Subjects with a fault, in fog, healthy and brought, and options that were tuned; one method
    stands for all here.
    """
    cells = collected(
        suite(tmp_path, "--collect-only", "-q", "--profile", "digits", "--method", "irepair").stdout
    )
    columns = {"-".join(c.split("-")[:2]) for c in cells}
    assert {
        "digits-fc",
        "digits-keras_cnn",
        "digits-fc+imbalanced",
        "digits-cnn+clean",
        "digits+fog3-cnn",
    } <= columns
    assert {"digits-fc-irepair[tuned]-s4", "digits-fc+imbalanced-irepair[gamma_0]-s4"} <= set(cells)
    assert not {c for c in columns if not c.startswith("digits")}


def test_selection_by_substring_and_exactly(tmp_path: Path) -> None:
    """-k is a substring, --dataset and the marker are exact."""
    runs = [["-k", "cifar10"], ["--dataset", "cifar10"], ["-m", "cell(dataset='cifar10')"]]
    results = suites(tmp_path, [["--collect-only", "-q", *words] for words in runs])
    found = [{c.split("-")[0] for c in collected(result.stdout)} for result in results]
    assert found == [{"cifar10", "cifar100"}, {"cifar10"}, {"cifar10"}]


def test_several_values_of_an_option_are_a_sweep_and_the_ids_carry_them(tmp_path: Path) -> None:
    """A comma inside brackets is no separator, and -k selects one value by what stands in the id."""
    words = [
        "--collect-only",
        "-q",
        "--dataset",
        "digits",
        "--method",
        "dl2",
        "--seeds",
        "0",
        "--set",
        "dl2.lr=.1,.01",
        "--set",
    ]
    words += ["dl2.constraint=RobustnessT(eps1=2.0, eps2=0.1),Groups()", "-k"]
    one, two = suites(
        tmp_path,
        [
            [*words, f"digits-cnn- and {k}"]
            for k in ("dl2[lr:.01+constraint:Groups]", "RobustnessT_eps1_2.0_eps2_0.1")
        ],
    )
    assert collected(one.stdout) == ["digits-cnn-dl2[lr:.01+constraint:Groups]-s0"], one.stdout + one.stderr
    assert len(collected(two.stdout)) == 2, two.stdout + two.stderr


REFUSED = [
    (["--method", "apricott"], "unknown method 'apricott' (did you mean 'apricot'?)"),
    (
        ["--method", "apricot[other]"],
        "apricot has no variant 'other'; accepted: apricot, apricot[random_sets]",
    ),
    (
        ["--method", "finetune[failing+labels]"],
        "finetune has no variant 'failing+labels'; accepted: finetune, finetune[tuned], finetune[SOURCE",
    ),
    (["--dataset", "imagenet"], "unknown data set 'imagenet'"),
    (["--set", "apricot.speed=1"], "unknown option of apricot 'speed'"),
    (["--set", "apricot.rate=-1"], "apricot.rate=-1.0 is out of range; accepted: 0.0.."),
    (["--set", "apricot.block=many"], "apricot.block='many' is not of the accepted type: int"),
    (["--set", "nonsense"], "accepted: METHOD.OPTION=VALUE"),
    (["--seeds", "0,x"], "--seeds '0,x' is not a list of different seeds"),
    (["--profile", "huge"], "unknown profile 'huge'"),
]


def test_bad_input_is_one_line_and_a_usage_error(tmp_path: Path) -> None:
    """The line shows the value and what would be accepted; no traceback; pytest's own exit code for usage."""
    results = suites(tmp_path, [words for words, _ in REFUSED])
    assert {r.returncode for r in results} == {pytest.ExitCode.USAGE_ERROR}
    assert [why for (_, why), r in zip(REFUSED, results, strict=True) if why not in r.stderr] == []
    assert "Traceback" not in "".join(r.stderr + r.stdout for r in results)


def test_a_resumed_run_names_a_bad_line_and_reads_the_rest(tmp_path: Path, cache: Path, ran: Path) -> None:
    """Bytes that are no record cost no cell: they stay where they are, the others stand, a torn
    tail is kept aside.
    """
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "records.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"\xff\xfe\n" + second[:300])
    result = suite(tmp_path, *TWO, "--seeds", "90", "--resume", cache=cache)
    assert re.search(r"1 passed, 1 skipped", result.stdout), result.stdout
    assert f"airepair: no record: {file}:2: byte 1 is 0xff" in result.stdout
    assert "(2 records)" in result.stdout
    assert file.read_bytes().startswith(first + b"\xff\xfe\n{")
    assert (tmp_path / "records.jsonl.torn").read_bytes() == second[:300] + b"\n"


def test_a_resumed_run_says_what_has_changed_and_runs_that_again(tmp_path: Path, cache: Path) -> None:
    """An option, the method's source, the subject's weights; what stays the same is kept, and the
    tables show what ran last.
    """
    plain = ("-k", "not failing+")  # without fine-tuning on other sources
    suite(tmp_path, *SMALL, *plain, "--method", "noop,random,finetune,lookup", "--seeds", "90", cache=cache)
    file = tmp_path / "records.jsonl"
    lines = {r.case.method: r for r in read([file])[0]}
    assert set(PARTS) - {"arithmetic", "column_budget", "file"} <= set(lines["noop"].fingerprint)
    for method, part in (("random", "source"), ("lookup", "weights")):
        print_ = {**lines[method].fingerprint, part: "0" * 64}
        lines[method] = dataclasses.replace(lines[method], fingerprint=print_)
    file.write_text("".join(r.to_json() + "\n" for r in lines.values()))
    words = [
        *SMALL,
        "--method",
        "noop,random,finetune,lookup",
        "--seeds",
        "90",
        "--set",
        "finetune.epochs=4",
        *plain,
    ]
    result = suite(tmp_path, *words, "--resume", cache=cache)
    assert re.search(r"3 passed, 1 skipped", result.stdout), result.stdout
    assert "airepair: 1 cell ran again: random: source changed\n" in result.stdout
    assert "airepair: 1 cell ran again: finetune.epochs: was 3, is 4\n" in result.stdout
    assert "airepair: 1 cell ran again: weights of the subject: was 000000000000, is " in result.stdout
    assert len(file.read_text().splitlines()) == 7


def test_a_resumed_run_repeats_the_control_whose_column_has_another_budget(
    tmp_path: Path, cache: Path
) -> None:
    """Fine-tuning trains to the largest budget that a method of its column declares: it stands
    while that does, and runs again if it changes.
    """
    words = [*SMALL, "--method", "noop,finetune", "--seeds", "90", "-k", "not failing+"]
    suite(tmp_path, *words, cache=cache)
    kept = suite(tmp_path, *words, "--resume", cache=cache)
    assert re.search(r"2 skipped", kept.stdout), kept.stdout
    file = tmp_path / "records.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    budgets = [line["fingerprint"].get("column_budget") for line in lines]
    (budget,) = [b for b in budgets if b is not None]
    for line in lines:
        line["fingerprint"] |= {"column_budget": budget + 1} if "column_budget" in line["fingerprint"] else {}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = suite(tmp_path, *words, "--resume", cache=cache)
    assert re.search(r"1 passed, 1 skipped", again.stdout), again.stdout
    assert (
        f"airepair: 1 cell ran again: finetune: column budget changed: was {budget + 1:,} images, "
        f"is {budget:,}\n" in again.stdout
    )


def test_a_run_with_nothing_left_to_do_prints_its_table_and_says_so(
    tmp_path: Path, cache: Path, ran: Path
) -> None:
    """Every cell is kept from the run before."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    result = suite(tmp_path, *TWO, "--seeds", "90", "--resume", cache=cache)
    assert result.returncode == 0
    assert "2 skipped" in result.stdout
    assert "2 cells repaired" in result.stdout
    assert result.stdout.rstrip().endswith(
        f"airepair: nothing to do: all 2 cells have finished records ({tmp_path}/records.jsonl)"
    )


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """A file in the folder's place stands for it: root may write anywhere else."""
    (tmp_path / "taken").write_text("")
    result = suite(tmp_path / "taken" / "out", "--dataset", "digits", "--method", "noop")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "cannot write to" in result.stderr
    assert "--out DIR" in result.stderr


@pytest.mark.parametrize("extra", [pytest.param([], marks=pytest.mark.slow), ["-n", "2"]])
def test_an_absent_data_set_is_one_sentence_that_says_what_to_do(tmp_path: Path, extra: list[str]) -> None:
    """It stands once, before the cells; pytest's summary and the last line have its first words.

    That nothing ran is not green (5).
    """
    result = suite(tmp_path, "-k", "cifar100 and noop", "--seeds", "0", *extra)
    assert result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, result.stdout + result.stderr
    assert "7 skipped" in result.stdout
    why = "cifar100 not found: run `airepair data get cifar100`, or put cifar-100-python.tar.gz"
    lines = result.stdout.splitlines()
    assert f"airepair: none of these 7 cells can run here: {why}" in result.stdout
    assert result.stdout.count(why) == 1
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    assert len(skipped) == 1
    assert skipped[0].startswith("SKIPPED [7] ")
    assert skipped[0].endswith(": cifar100 not found")
    assert lines[-1] == "airepair: nothing ran, so there is no table (7 cells: cifar100 not found)"


def test_the_time_is_said_before_the_first_cell(tmp_path: Path) -> None:
    """What runs here, under which profile, how long that takes, what takes less, what is skipped; -k
    cifar100 holds the paper's three networks times every method.
    """
    np.savez(tmp_path / "cifar100.npz", x_train=0)  # its presence counts
    result = suite(tmp_path, "-k", "cifar100 and not aprnn", "--seeds", "0", "--collect-only", data=tmp_path)
    cells = {
        (model, method)
        for model, method in re.findall(r"test_repair\[cifar100-([a-z0-9_]+)-(.+)-s0\]", result.stdout)
    }
    from benchmarks import grid

    wanted = {
        (m, method)
        for m in ("resnet18", "resnet34", "resnet50")
        for method in grid.methods()
        if method != "aprnn"
    }
    assert wanted <= cells
    narrow = sum(m == "resnet18w16" for m, _ in cells)
    assert f"airepair: {narrow} of {len(cells)} cells run here, about " in result.stdout
    assert f"{len(cells) - narrow} are skipped" in result.stdout
    assert re.search(
        r"airepair: profile cpu \(reduced budgets .*\): cifar100-resnet18w16$", result.stdout, re.MULTILINE
    )
    few = (
        r"airepair: smaller: --seeds 0 --method finetune,apricot,deeprepair,dl2 \(4 cells, about 3 minutes\)$"
    )
    assert re.search(few, result.stdout, re.MULTILINE)


BENCHMARK_TEST = (
    "import os, time\ndef test_speed(benchmark):\n    benchmark.pedantic(time.sleep, "
    "args=(float(os.environ['NAP']),), rounds=3)\n"
)


@pytest.mark.parametrize("extra", [pytest.param([], marks=pytest.mark.slow), ["-n", "2"]])
def test_the_compare_gate_of_pytest_benchmark_works_under_xdist(tmp_path: Path, extra: list[str]) -> None:
    """A slowdown fails the run; without the bridge it would exit 0 there."""
    (tmp_path / "test_speed.py").write_text(BENCHMARK_TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def gate(nap: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "reports.bridge",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(tmp_path),
            *extra,
            *words,
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NAP": nap}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    saved = gate("0.001", "--benchmark-autosave")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    same = gate("0.001", "--benchmark-compare", "--benchmark-compare-fail=min:500%")
    assert same.returncode == 0, same.stdout + same.stderr
    assert gate("0.1", "--benchmark-compare", "--benchmark-compare-fail=min:500%").returncode != 0


CHANGES = {
    "random": ("weights", "f" * 64, "weights of the subject: was ffffffffffff, is "),
    "lookup": ("profile", "cpu", "profile: was cpu, is smoke"),
    "memit": ("benchmark_version", 1, "benchmark version: was 1, is 2"),
}


def test_a_resumed_run_names_other_weights_profiles_and_versions(tmp_path: Path, cache: Path) -> None:
    """Replaced weights, another profile or version: the record of then does not stand for the cell of now."""
    words = [*SMALL, "--method", ",".join(("noop", *CHANGES)), "--seeds", "90"]
    suite(tmp_path, *words, cache=cache)
    file = tmp_path / "records.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        if record["case"]["method"] in CHANGES:
            part, value, _ = CHANGES[record["case"]["method"]]
            record["fingerprint"][part] = value
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    result = suite(tmp_path, *words, "--resume", cache=cache)
    assert re.search(r"3 passed, 1 skipped", result.stdout), result.stdout
    for _, _, sentence in CHANGES.values():
        assert f"airepair: 1 cell ran again: {sentence}" in result.stdout, result.stdout
