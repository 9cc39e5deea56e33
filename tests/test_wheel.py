"""What is installed: everything under the project's own name."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_has_one_top_level_package_and_carries_the_suite(tmp_path: Path) -> None:
    """No `fixtures`, `benchmarks` or `reports` beside it; grid, fixtures, reporter, settings and the paper's table inside."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"airepair"}
    for name in ("benchmarks/grid.py", "fixtures/repair.py", "reports/reporter.py", "reports/paper/table1.csv"):
        assert f"airepair/suite/{name}" in names
    assert "airepair/settings.toml" in names
    assert "airepair/py.typed" in names
