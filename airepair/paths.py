"""Where files live: data sets, trained baselines. Free of torch."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from platformdirs import user_cache_path

_DATA: ContextVar[Path | None] = ContextVar("the folder of the data sets", default=None)


def data() -> Path:
    """The folder of the data sets: that of `data_in`, AIREPAIR_DATA, or `data` in the platform's
    cache folder.
    """
    if (chosen := _DATA.get()) is not None:
        return chosen
    given = os.environ.get("AIREPAIR_DATA")
    return Path(given).expanduser() if given else user_cache_path("airepair") / "data"


@contextmanager
def data_in(folder: Path) -> Iterator[None]:
    """Meanwhile the data sets of this thread lie in `folder`."""
    token = _DATA.set(folder)
    try:
        yield
    finally:
        _DATA.reset(token)


def cache() -> Path:
    """Returns the folder of trained baselines: AIREPAIR_CACHE, else in the platform's cache folder,
    else (a read-only home) where temporary files are.
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
