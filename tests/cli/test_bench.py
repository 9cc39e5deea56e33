"""`airepair bench` runs the same suite from a checkout and from an installed package."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airepair.cli import bench
from airepair.cli.main import main
from airepair.errors import UsageError
from airepair.records import read

ROOT = Path(__file__).parents[2]


def parsed(words: list[str]) -> list[str]:
    parser = argparse.ArgumentParser("airepair bench")
    bench.add_arguments(parser)
    return parser.parse_args(words).options


def test_every_word_goes_to_pytest():
    """Also where the first is an option, and options that argparse knows."""
    words = ["-k", "digits and not fc", "--seeds", "0,1", "-n", "2", "--set", "dl2.epochs=3", "-h"]
    assert parsed(words) == words


def test_in_a_checkout_it_is_pytest_benchmarks():
    """The checkout's suite and configuration, from any folder."""
    words = bench.command(ROOT)
    assert words[3:] == [str(ROOT / "benchmarks"), "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    assert str(ROOT) in bench.surroundings(ROOT)["PYTHONPATH"]


def test_elsewhere_it_is_the_installed_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its name, with its plugin, without the configuration of the project that it is run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "find_spec", lambda name: object())
    words = bench.command(tmp_path)
    assert words[-4:] == ["-p", "airepair.suite.plugin", "--pyargs", "airepair.suite.benchmarks"]
    assert words[words.index("-c") + 1] == os.devnull
    assert words[words.index("--rootdir") + 1] == str(tmp_path)


def test_without_a_suite_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One line: where it looked, and what would be accepted."""
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"no benchmark suite in .*accepted: a checkout"):
        bench.command(tmp_path)


def test_it_collects_the_cells_that_are_asked_for(capfd: pytest.CaptureFixture[str]):
    """pytest's own output and exit code."""
    assert (
        main(
            [
                "bench",
                "--collect-only",
                "-q",
                "--dataset",
                "digits",
                "--model",
                "cnn",
                "--method",
                "noop",
                "--seeds",
                "0,1",
            ]
        )
        == 0
    )
    out = capfd.readouterr().out
    assert "test_repair[digits-cnn-noop-s0]" in out
    assert "test_repair[digits-cnn-noop-s1]" in out
    assert "finetune" not in out


def test_help_is_our_own(capsys: pytest.CaptureFixture[str]):
    """A page, not pytest's hundred options."""
    assert main(["bench", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "airepair bench [pytest options]" in shown
    for option in ("--method A,B", "--pretrained FILE", "--resume", "--keep-models"):
        assert option in shown
    assert "--airepair" not in shown


EXAMPLE = ROOT / "examples" / "third_party" / "src" / "airepair_bias" / "__init__.py"


@pytest.mark.slow
def test_from_a_folder_of_the_users_own_methods_are_found_and_results_stay_there(tmp_path: Path):
    """`airepair bench --method mine:Mine` in any folder; the checkout is not written to."""
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text().replace("class Bias", "class Mine"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIREPAIR_CACHE": str(tmp_path / "cache")}
    words = [
        "bench",
        "-q",
        "-n",
        "2",
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        "mine:Mine",
        "--seeds",
        "0",
        "--device",
        "cpu",
    ]
    command = [sys.executable, "-m", "airepair", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = read([tmp_path / "reports" / "out"])[0]
    assert {(r.case.base_method, r.status) for r in records} == {("mine:Mine", "repaired")}, (
        "the method, and with it its ablation"
    )
