"""Where files live: data sets, trained baselines. Free of torch."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def data() -> Path:
    """The folder of the data sets: AIREPAIR_DATA or `data` in the platform's cache folder."""
    given = os.environ.get("AIREPAIR_DATA")
    return Path(given).expanduser() if given else user_cache_path("airepair") / "data"


def cache() -> Path:
    """The folder of trained baselines: AIREPAIR_CACHE or the platform's cache folder."""
    given = os.environ.get("AIREPAIR_CACHE")
    return Path(given).expanduser() if given else user_cache_path("airepair") / "baselines"
