"""The command line as it is met: misspelt words, closed and narrow streams, completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import airepair
from airepair.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["reapir"], "unknown command 'reapir' (did you mean 'repair'?)"),
        (["repair", "--metod", "noop"], "(did you mean --method?)"),
        (["repair", "--depth", "x"], "argument --depth: invalid int value: 'x'"),
        (
            ["repair", "--dataset", "digits", "--net_arch", "fc", "--method", "noop", "--device", "gpu"],
            "(did you mean 'cuda'?)",
        ),
        (
            ["repair", "--dataset", "digits", "--net_arch", "fc", "--method", "noop", "--time-limit", "nan"],
            "--time-limit nan is out of range",
        ),
        (["table"], "the following arguments are required: records"),
        (["tune", "--trials", "0"], "--trials 0 is out of range"),
    ],
)
def test_bad_words_are_one_line_with_the_nearest(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing but that line."""
    assert main(words) == 2
    told = capsys.readouterr()
    assert line in told.err
    assert told.err.count("\n") == 1
    assert not told.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--metod", "noop"], "unknown option --metod; did you mean --method?"),
        (["--seed", "0"], "unknown option --seed; did you mean --seeds?"),
        (["--device", "gpu"], "--device 'gpu' is not known (did you mean 'cuda'?)"),
        (["--time-limit", "0"], "--time-limit 0 is out of range"),
        (["--time-limit", "inf"], "--time-limit inf is out of range"),
        (["-m", "cell(data='digits')"], "unknown key of the marker cell 'data' (did you mean 'dataset'?)"),
    ],
)
def test_bad_words_of_the_suite_end_it_before_anything_runs(
    words: list[str], line: str, tmp_path: Path
) -> None:
    """pytest's exit code for bad usage, one line, no folder."""
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "--out", str(tmp_path / "out"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4
    assert line in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_printed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone on its line."""
    assert main([word]) == 0
    assert capsys.readouterr().out == f"{airepair.__version__}\n"


@pytest.mark.parametrize("how", ["| head -1", ">&-", "2>&-", ">/dev/full"])
def test_a_reader_that_leaves_costs_no_traceback(how: str) -> None:
    """A closed pipe or stream ends the command quietly; a full device is one line and exit code 2."""
    command = f"set -o pipefail; {sys.executable} -m airepair list metrics {how}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == (2 if "full" in how else 0), done.stderr


def test_a_terminal_without_unicode_gets_the_table_and_the_files_stay_whole(tmp_path: Path) -> None:
    """What its encoding lacks is replaced on the screen alone."""
    surroundings = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "airepair", "table", "reports/cifar", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(not file.read_text(encoding="utf-8").isascii() for file in tmp_path.iterdir())


def test_the_shell_completes_commands_and_options() -> None:
    """argcomplete's protocol: `airepair rep` and `airepair repair --add`."""
    pytest.importorskip("argcomplete")
    for line, expected in (
        ("airepair rep", "repair"),
        ("airepair repair --additional-p", "--additional-param"),
    ):
        surroundings = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
        }
        done = subprocess.run(
            [sys.executable, "-m", "airepair"],
            cwd=ROOT,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert expected in done.stdout, done.stderr
