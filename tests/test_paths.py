"""Where files live, also if the home folder cannot be written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airepair import paths


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home in a folder that everybody can enter, unlike pytest's own."""
    above = Path(tempfile.mkdtemp(prefix="airepair-home-"))
    above.chmod(0o755)
    (above / "home").mkdir()
    (above / "tmp").mkdir()
    (above / "tmp").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(above / "tmp"))
    for name in ("AIREPAIR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(above / "home"))
    yield above / "home"
    shutil.rmtree(above)


def as_nobody() -> tuple[Path, bool]:
    """The cache folder, and whether it can be made, for a user without privileges: root may write
    everywhere.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.environ["LOGNAME"] = "nobody"
                os.setuid(65534)
            found = paths.cache()
            found.mkdir(parents=True, exist_ok=True)
            os.write(writing, f"{found}\nmade".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        found, _, made = stream.read().partition("\n")
    return Path(found), made == "made"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_read_only_home_puts_the_cache_where_temporary_files_are(home: Path) -> None:
    """In a home that can be written it stays there."""
    home.chmod(0o777)
    assert as_nobody() == (home / ".cache" / "airepair" / "baselines", True)
    shutil.rmtree(home / ".cache")
    home.chmod(0o555)
    found, made = as_nobody()
    assert made
    assert found.is_relative_to(tempfile.gettempdir())
    assert not found.is_relative_to(home)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AIREPAIR_CACHE and AIREPAIR_DATA, as they stand."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path / "d"))
    assert (paths.cache(), paths.data()) == (tmp_path / "c", tmp_path / "d")
