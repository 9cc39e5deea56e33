"""The pages about methods and tools say what the code does: their code runs, their lists are complete."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from airepair.cli.main import main
from airepair.external.manifest import Manifest
from airepair.testing.conformance import MethodConformance
from airepair.testing.contract import CHECKS, check_method

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "adding-a-method.md").read_text()


def test_the_method_of_the_page_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first block is a method; the second is its test, in three lines."""
    method, test = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.py").write_text(method)
    (tmp_path / "mine_test.py").write_text(test)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(
        sys.modules, "mine", raising=False
    )  # another test's module of that name would be taken for the page's
    try:
        found = importlib.import_module("mine_test").TestMine
        assert issubclass(found, MethodConformance)
        for architecture in found.architectures:
            check_method(found.method, found.options, architecture)
    finally:
        sys.modules.pop("mine", None)
        sys.modules.pop("mine_test", None)
    # Besides the method's own import and the blank lines that the formatter asks for.
    assert len([line for line in test.splitlines() if line and not line.startswith("from mine")]) == 3


def test_the_page_lists_the_contract():
    """Every check of the suite, in its own words."""
    for check in CHECKS:
        assert f"- {' '.join(check.__doc__.split())}" in " ".join(PAGE.split())


def test_the_page_on_tools_explains_every_entry_of_a_manifest():
    """And no entry that there is not."""
    text = (DOCS / "external-tools.md").read_text()
    table = text.split("## The manifest")[1].split("## The job")[0]
    explained = {name for row in re.findall(r"^\| `\[?(\w+)", table, re.MULTILINE) for name in [row]}
    assert explained == set(Manifest.__dataclass_fields__) - {"folder"}


def test_the_workflow_for_a_tools_own_ci_says_what_the_commands_accept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    """Its bench line selects the cells that it names; `mine` is a control here."""
    lines = re.findall(r"^ +run: (.*)$", (DOCS / "ci-workflow.yml").read_text(), re.MULTILINE)
    words = {
        line.split()[1]: line.replace("mine", "random").split()
        for line in lines
        if line.startswith("airepair ")
    }
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DOCS.parent / "reports" / "digits", tmp_path / "baseline")
    assert main(["bench", *_without_workers(words["bench"][2:])]) == 0
    out = capfd.readouterr().out
    assert all(
        f"digits-fc-{method}-s{seed}" in out
        for method in ("noop", "finetune", "random")
        for seed in (0, 1, 2)
    )


def _without_workers(words: list[str]) -> list[str]:
    """Collected here, in one process."""
    at = words.index("-n")
    return [*words[:at], *words[at + 2 :], "--collect-only", "-q"]
