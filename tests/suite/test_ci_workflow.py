"""The workflows in docs/ are run: their lines, one after the other, in an environment and a project
of their own.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from airepair.records import append, read
from tests.suite.test_wheel import sources, wheel

__all__ = ["sources", "wheel"]
ROOT = Path(__file__).parents[2]
SMALL = " --model fc --set finetune.epochs=3"  # the cells stay few: the lines are what is tested
pytestmark = pytest.mark.slow


def lines(workflow: str) -> list[str]:
    """The commands of a workflow, in their order."""
    return re.findall(r"^ +run: (.+)$", (ROOT / "docs" / workflow).read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees this one's packages: `pip install` finds every dependency and
    needs no network.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for name in ("pip", "pytest"):  # their scripts lie in the outer environment
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a repair tool: the example of a third party, its method called `mine`."""
    folder = tmp_path_factory.mktemp("project") / "tool"
    shutil.copytree(
        ROOT / "examples" / "third_party",
        folder,
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
    )
    manifest = folder / "pyproject.toml"
    manifest.write_text(
        manifest.read_text().replace('bias = "airepair_bias:Bias"', 'mine = "airepair_bias:Bias"')
    )
    (folder / "tests" / "test_bias.py").rename(folder / "tests" / "test_conformance.py")
    return folder


def step(
    line: str, project: Path, environment: Path, wheel: Path, **given: str
) -> subprocess.CompletedProcess[str]:
    """One `run:` as a runner does it: bash, -e, in the project's folder; what an earlier step put
    into GITHUB_ENV is there.
    """
    file = project.parent / "environment"
    earlier = dict(line.split("=", 1) for line in file.read_text().splitlines()) if file.exists() else {}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "AIREPAIR_", "PYTHON"))}
    surroundings = (
        kept
        | earlier
        | given
        | {
            "GITHUB_ENV": str(file),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HARNESS": str(wheel),
            "GITHUB_STEP_SUMMARY": str(project / "summary.md"),
            "AIREPAIR_CACHE": str(project.parent / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the other way round: 0 is no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
    )
    return subprocess.run(
        ["bash", "-ec", line],
        cwd=project,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_workflow_goes_green_and_red(project: Path, environment: Path, wheel: Path) -> None:
    """Installed, the contract holds; a run as good as the accepted one is green, one that is worse
    is 10, and the verdict is on the page.
    """
    install, contract, bench, summary = lines("ci-workflow.yml")
    for line in (install, contract):
        done = step(line, project, environment, wheel)
        assert done.returncode == 0, done.stdout + done.stderr
    first = step(bench + SMALL, project, environment, wheel)
    assert first.returncode == 4, "there is no baseline yet"
    assert "baseline does not exist" in first.stderr
    done = step(
        bench.replace("--baseline baseline --fail-if accuracy:-1pp", "") + SMALL, project, environment, wheel
    )
    assert done.returncode == 0, done.stdout + done.stderr

    records = read([project / "out"])[0]
    for record in records:
        append(project / "baseline" / "records.jsonl", record)
    done = step(bench + SMALL, project, environment, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    assert step(summary, project, environment, wheel).returncode == 0
    assert (project / "summary.md").read_text().startswith("## Repair: Nothing changed")

    (project / "baseline" / "records.jsonl").unlink()
    for record in records:
        after = {**record.after, "accuracy": min(1.0, record.after["accuracy"] + 0.05)}
        better = (
            dataclasses.replace(record, after=after, right={}, phases=())
            if record.case.method == "mine"
            else record
        )
        append(project / "baseline" / "records.jsonl", better)
    done = step(bench + SMALL, project, environment, wheel)
    assert done.returncode == 10, done.stdout + done.stderr
    assert "Regressed: digits-fc-mine: accuracy -5.00 pp" in " ".join(done.stdout.split())


@pytest.fixture
def board(project: Path, tmp_path: Path) -> Path:
    """The repository of a leaderboard, cloned, with an entry on a branch: six seeds of the
    example's method beside its controls.
    """
    home, clone = tmp_path / "home", tmp_path / "clone"
    (home / "reference").mkdir(parents=True)
    (home / "reference" / "README").write_text("the maintainers' controls")

    def git(*words: str, folder: Path = home) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, timeout=60)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "reference")
    git("clone", "-q", str(home), str(clone), folder=tmp_path)
    entry = clone / "entries" / "mine"
    entry.mkdir(parents=True)
    about = {
        "name": '"mine"',
        "authors": '["A. Author"]',
        "methods": '["mine"]',
        "source": '"here"',
        "licence": '"MIT"',
        "install": f'"{project}"',
    }
    (entry / "entry.toml").write_text("".join(f"{k} = {v}\n" for k, v in about.items()))
    git("checkout", "-q", "-b", "entry", folder=clone)
    git("add", ".", folder=clone)
    git("commit", "-q", "-m", "an entry", folder=clone)
    return clone


def test_the_leaderboards_workflow_checks_an_entry_and_publishes_it(
    board: Path, environment: Path, wheel: Path
) -> None:
    """The method is installed, nothing is lacking, a sample is reproduced, the controls are those of
    a larger reference, and the page says so, whatever became of another entry.
    """
    install, which, method, lacks, sample, controls, summary, again, marks, page = lines(
        "leaderboard-workflow.yml"
    )

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return step(line, board, environment, wheel, GITHUB_BASE_REF="main")

    for line in (install, which, method):
        done = run(line)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (board.parent / "environment").read_text() == "ENTRY=entries/mine\n"
    done = run(lacks)
    assert done.returncode == 2, "there are no records yet"
    words = (
        "--dataset digits --method noop,finetune,random,mine --seeds 0,1,2,3,4,5 --out entries/mine" + SMALL
    )
    done = run(f"airepair bench -n 2 {words}")
    assert done.returncode == 0, done.stdout + done.stderr
    controls_of = [r for r in read([board / "entries" / "mine"])[0] if r.case.method != "mine"]
    beyond = [{"model": "cnn"}, {"seed": 6}, {"method": "lookup"}]  # what an entry need not have
    for record in controls_of:
        append(board / "reference" / "records.jsonl", record)
        for other in beyond if record.case.seed == 5 else []:
            case = dataclasses.replace(record.case, **other)
            append(board / "reference" / "records.jsonl", dataclasses.replace(record, case=case))
    for line in (lacks, sample, controls, summary):
        done = run(line)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (board / "summary.md").read_text().startswith("## Repair: Nothing changed")
    (board / "entries" / "mine" / "verification.json").write_text('{"word": "reproduced"}')
    about = board / "entries" / "gone" / "entry.toml"  # the first of the two, and pip does not find it
    shutil.copytree(board / "entries" / "mine", about.parent)
    about.write_text(re.sub('install = ".*"', 'install = "no-such-method==1"', about.read_text()))
    for line in (again, marks, page):
        done = run(line)
        assert done.returncode == 0, done.stdout + done.stderr
    shown = (board / "site" / "index.html").read_text()
    assert re.search(r"entries/mine: reproduced: 1 of \d+ cells, drawn at random, were run again", shown)


def test_no_job_that_runs_an_entrys_code_may_write() -> None:
    """The rights of the page's job are its own, and it runs no line."""
    workflow = yaml.safe_load((ROOT / "docs" / "leaderboard-workflow.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    running = {name for name, job in workflow["jobs"].items() if any("run" in s for s in job["steps"])}
    assert running == {"entry", "build"}
    assert {name for name, job in workflow["jobs"].items() if "permissions" in job} == {"page"}
    assert workflow["jobs"]["page"]["needs"] == "build"
