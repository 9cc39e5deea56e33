"""`airepair bench` runs the same suite from a checkout and from an installed package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from airepair.cli import main
from airepair.commands import bench
from airepair.errors import UsageError

ROOT = Path(__file__).parents[1]


def parsed(words: list[str]) -> list[str]:
    parser = argparse.ArgumentParser("airepair bench")
    bench.add_arguments(parser)
    return parser.parse_args(words).options


def test_every_word_goes_to_pytest():
    """Also where the first is an option, and options that argparse knows."""
    words = ["-k", "digits and not fc", "--seeds", "0,1", "-n", "2", "--set", "dl2.epochs=3", "-h"]
    assert parsed(words) == words


def test_in_a_checkout_it_is_pytest_benchmarks():
    """The checkout's conftest, configuration and folder."""
    words, folder = bench.command(ROOT)
    assert words[-1] == "benchmarks"
    assert folder == ROOT


def test_elsewhere_it_is_the_installed_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its name, with its plugin, without the configuration of the project that it is run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "find_spec", lambda name: object())
    words, folder = bench.command(tmp_path)
    assert words[-4:] == ["-p", "airepair.suite.plugin", "--pyargs", "airepair.suite.benchmarks"]
    assert words[words.index("-c") + 1] == os.devnull
    assert folder == tmp_path


def test_without_a_suite_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One line: where it looked, and what would be accepted."""
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"no benchmark suite in .*accepted: a checkout"):
        bench.command(tmp_path)


def test_it_collects_the_cells_that_are_asked_for(capfd: pytest.CaptureFixture[str]):
    """pytest's own output and exit code."""
    assert main(["bench", "--collect-only", "-q", "--dataset", "digits", "--model", "cnn", "--method", "noop", "--seeds", "0,1"]) == 0
    out = capfd.readouterr().out
    assert "test_repair[digits-cnn-noop-s0]" in out
    assert "test_repair[digits-cnn-noop-s1]" in out
    assert "finetune" not in out


def test_help_is_our_own(capsys: pytest.CaptureFixture[str]):
    """A page, not pytest's hundred options."""
    assert main(["bench", "--help"]) == 0
    assert "airepair bench [pytest options]" in capsys.readouterr().out
