"""What is installed, and what an author sees who has only that: the wheel and a package that adds
to it, in an empty folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from airepair.records import Record, read

ROOT = Path(__file__).parents[2]
TORN = "[airepair.methods]\ntorn = torn:Torn\n\n[airepair.metrics]\ntorn_metric = torn:ENTRY\n"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build leaves its own folder behind, and what was left there once is
    in the next wheel.
    """
    folder = tmp_path_factory.mktemp("sources") / "airepair"
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "out", "__pycache__")
    )
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout's sources."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(sources))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(sources: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages with the wheel, the example of a third party, and a package that cannot be imported."""
    folder = tmp_path_factory.mktemp("site")
    _pip(
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder),
        str(wheel),
        str(sources / "examples" / "third_party"),
    )
    info = folder / "torn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(TORN)
    (folder / "torn.py").write_text("import a_package_that_is_not_installed\n")
    return folder


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words, "-q"], check=True, cwd="/", timeout=300)


def _python(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python WORDS` in `folder`, where nothing but the site-packages has the project."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "AIREPAIR_TOOLS"))}
    environment = kept | {
        "PYTHONPATH": str(site),
        "AIREPAIR_CACHE": str(site.parent / "cache"),
        "COLUMNS": "140",
    }
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_the_sdist_holds_what_the_repository_holds(sources: Path, tmp_path: Path) -> None:
    """Tests, documents, committed reports, constraints: its own tests run from it."""
    folders = {"benchmarks", "docs", "examples", "fixtures", "reports", "requirements", "tests"}
    wanted = {p.relative_to(sources) for p in sources.rglob("*") if p.is_file()}
    wanted = {p for p in wanted if p.parts[0] in folders or len(p.parts) == 1}
    words = [
        sys.executable,
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(sources),
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as found:
        names = {Path(*Path(m.name).parts[1:]) for m in found if m.isfile()}
    assert len(wanted) > 200
    assert wanted - names == set()


def test_the_wheel_has_one_top_level_package_and_carries_the_suite(wheel: Path) -> None:
    """No `fixtures`, `benchmarks` or `reports` beside it; grid, fixtures, reporter, settings and
    the paper's table inside.
    """
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"airepair"}
    for name in (
        "benchmarks/grid.py",
        "fixtures/repair.py",
        "reports/reporter.py",
        "reports/paper/table1.csv",
    ):
        assert f"airepair/suite/{name}" in names
    assert {"airepair/settings.toml", "airepair/py.typed"} <= set(names)


def test_all_four_entry_points_are_discovered(site: Path, tmp_path: Path) -> None:
    """Method, model, data set and metric of the package are listed; the torn ones are named on
    standard error.
    """
    for what, name in (
        ("methods", "bias"),
        ("models", "narrow"),
        ("datasets", "tiles"),
        ("metrics", "hesitation"),
    ):
        done = _python(site, tmp_path, "-m", "airepair", "list", what, "--json")
        assert done.returncode == 0, done.stderr
        assert name in json.loads(done.stdout)
        torn = {"methods": "method 'torn'", "metrics": "metric 'torn_metric'"}.get(what, "")
        assert torn in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["serial", "two workers"])
def test_bench_runs_what_packages_add_from_an_empty_folder(
    site: Path, tmp_path: Path, workers: list[str]
) -> None:
    """Their model, data set, metric and method in the grid's cells; a torn method is a failed cell
    with its reason, and the rest goes on.
    """
    (tmp_path / "conftest.py").write_text(
        "raise RuntimeError('a conftest of the project in this folder: about something else')\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    cells = [
        "--dataset",
        "digits,tiles",
        "--model=fc,narrow",
        "--method",
        "noop,bias,torn",
        "--seeds",
        "0",
        "--out",
        "out",
    ]
    done = _python(site, tmp_path, "-m", "airepair", "bench", *workers, *cells, "--benchmark-quiet")
    records = {r.key: r for r in read([tmp_path / "out" / "records.jsonl"])[0]}
    assert done.returncode == 1, done.stdout + done.stderr
    assert {r.case.dataset + "-" + r.case.model for r in records.values()} == {
        "digits-fc",
        "digits-narrow",
        "tiles-fc",
        "tiles-narrow",
    }
    for record in records.values():
        _as_expected(record)
    assert "airepair: the verdict" in done.stdout
    assert "left out: metric 'torn_metric'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _as_expected(record: Record) -> None:
    if record.case.method == "torn":
        assert record.status == "failed"
        assert "No module named 'a_package_that_is_not_installed'" in record.reason
    else:
        assert record.status == "repaired"
        assert 0 <= record.after["hesitation"] <= 1


def test_a_class_in_the_working_directory_needs_no_installation(site: Path, tmp_path: Path) -> None:
    """`--method mine:Mine`, by `airepair bench` as a script would call it (nothing of the folder on
    sys.path).
    """
    source = (ROOT / "examples" / "third_party" / "src" / "airepair_bias" / "__init__.py").read_text()
    (tmp_path / "mine.py").write_text(source.replace("class Bias", "class Mine"))
    script = "import sys; sys.path.remove(''); from airepair.cli.main import main; sys.exit(main())"
    assert (
        "bias: shifts the logits"
        in _python(site, tmp_path, "-c", script, "list", "methods", "mine:Mine").stdout
    )
    cells = ["--dataset", "digits", "--model", "fc", "--method", "mine:Mine", "--seeds", "0", "--out", "out"]
    done = _python(site, tmp_path, "-c", script, "bench", *cells)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = {r.key for r in read([tmp_path / "out" / "records.jsonl"])[0]}
    assert keys == {f"digits-fc-mine:Mine{variant}-s0" for variant in ("", "[shuffled_classes]")}, (
        "the method and its ablation"
    )


def test_the_installed_plugin_takes_no_short_option(site: Path, tmp_path: Path) -> None:
    """Only --airepair-*, so that a plugin with --profile of its own stands beside it; none at all
    without the plugin.
    """
    (tmp_path / "profiling.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--profile', action='store_true')\n"
    )
    words = ["-m", "pytest", "-p", "airepair.suite.plugin", "-p", "profiling", "--help"]
    done = _python(site, tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [
        line
        for line in done.stdout.partition("AIREPAIR: which cells")[2].splitlines()
        if line.startswith("  --")
    ]
    assert len(ours) > 15
    assert "--airepair-profile" in done.stdout
    assert not {"  --seeds", "  --dataset", "  --out", "  --pretrained"} & {
        line.partition("=")[0] for line in done.stdout.splitlines()
    }
    assert "airepair" not in _python(site, tmp_path, "-m", "pytest", "--help").stdout
