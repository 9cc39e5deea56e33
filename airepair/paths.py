"""Where files live: data sets, trained baselines. Free of torch."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path


def data() -> Path:
    """The folder of the data sets: AIREPAIR_DATA or `data` in the platform's cache folder."""
    given = os.environ.get("AIREPAIR_DATA")
    return Path(given).expanduser() if given else user_cache_path("airepair") / "data"


def cache() -> Path:
    """The folder of trained baselines: AIREPAIR_CACHE, else in the platform's cache folder, else (a
    read-only home) where temporary files are.
    """
    given = os.environ.get("AIREPAIR_CACHE")
    if given:
        return Path(given).expanduser()
    usual = user_cache_path("airepair") / "baselines"
    return (
        usual
        if _writable(usual)
        else Path(tempfile.gettempdir()) / f"airepair-{getpass.getuser()}" / "baselines"
    )


def _writable(folder: Path) -> bool:
    """Whether the folder could be written, or made where it is not there yet."""
    while (
        not os.path.exists(folder) and folder != folder.parent
    ):  # Path.exists raises where a parent may not be read
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
