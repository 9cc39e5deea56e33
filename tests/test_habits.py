"""Habits that a machine can check: fragments of the changelog, the hooks of git, the workflow, the
path through the code that CONTRIBUTING names.
"""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

import airepair

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TYPES = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
HOOKS = [
    hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repo["hooks"]
]
FRAGMENTS = sorted(f for f in (ROOT / "changelog.d").iterdir() if f.name != "README.md")


def test_a_fragment_is_named_after_its_type_and_says_something() -> None:
    """towncrier leaves out a file of another name without a word."""
    for fragment in FRAGMENTS:
        name = re.fullmatch(r"(\+[a-z0-9-]+|\d+)\.([a-z]+)\.md", fragment.name)
        assert name, fragment.name
        assert name[2] in TYPES, fragment.name
        assert fragment.read_text(encoding="utf-8").strip(), fragment.name


def test_the_page_on_fragments_names_every_type() -> None:
    """changelog.d/README.md, in the order of pyproject.toml."""
    page = (ROOT / "changelog.d" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", page)) == TYPES


def test_the_changelog_has_the_place_of_the_next_release() -> None:
    """Without it towncrier puts a release above the heading of the file."""
    assert PROJECT["tool"]["towncrier"]["start_string"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_towncrier_joins_the_fragments(capsys: pytest.CaptureFixture[str]) -> None:
    """A draft of the next release, from the files that are there."""
    build = pytest.importorskip("towncrier.build")
    with pytest.raises(SystemExit) as end:
        build._main(["--draft", "--version", "9.9.9", "--dir", str(ROOT)])
    assert not end.value.code
    draft = " ".join(capsys.readouterr().out.split())
    assert "9.9.9" in draft
    for fragment in FRAGMENTS:
        assert " ".join(fragment.read_text(encoding="utf-8").split()) in draft


def test_the_hooks_of_git_run_what_ci_runs_before_the_tests() -> None:
    """Word for word, in the order of tox.ini."""
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    checks = [line for line in tox["testenv:tests"]["commands"].split("\n") if line]
    assert [hook["entry"] for hook in HOOKS if "stages" not in hook] == checks[:4]


def test_a_long_subject_of_a_commit_is_refused() -> None:
    """By a hook that fails if its pattern is found; lines of the body may be longer."""
    (hook,) = [hook for hook in HOOKS if hook.get("stages") == ["commit-msg"]]
    assert (hook["language"], hook["args"]) == ("pygrep", ["--multiline"])
    pattern = re.compile(hook["entry"], re.MULTILINE | re.DOTALL)
    assert pattern.search("x" * 73)
    assert not pattern.search(f"{'x' * 72}\n\n{'y' * 100}\n")


def test_the_workflow_runs_what_ci_runs() -> None:
    """The script, so that there is one list of steps; actions are pinned to a major version."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


def test_the_version_is_the_same_everywhere() -> None:
    """In the package, its metadata and the citation."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["project"]["version"] == airepair.__version__ == citation["version"]


def test_contributing_is_a_screen() -> None:
    """Sixty lines and a few."""
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 66


def test_the_path_through_the_code_is_ten_files_and_a_thousand_lines() -> None:
    """From `pytest benchmarks` to the written table, as CONTRIBUTING numbers it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = [ROOT / name for name in re.findall(r"^\d+\. `([\w/]+\.py)`", page, re.MULTILINE)]
    assert len(files) == 10
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 1000
