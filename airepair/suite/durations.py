"""How long cells took, kept for the next run's estimate and order: by node id in the run's folder, by
column and method beside the baselines, where a run into another folder finds them. Free of torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from airepair.case import Case
from airepair.host.atomic import write_atomically

FILE = "durations.json"
WAIT = 5.0  # seconds for another run that writes; what is not stored costs an estimate only


def column_key(case: Case, profile: str) -> str:
    """What cells of one method in one column have in common."""
    return f"{profile} {case.dataset}-{case.model} {case.method}"


def training_key(case: Case, profile: str) -> str:
    """Returns the key of the training of a column's subject."""
    return f"{profile} {case.dataset}-{case.model} (training)"


def stored(folder: Path) -> dict[str, float]:
    """Returns the seconds by key; what cannot be read is not known."""
    try:
        found = json.loads((folder / FILE).read_text())
        return {str(k): float(v) for k, v in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def store(folder: Path, seconds: Mapping[str, float]) -> None:
    """Adds to what is there; nothing if that is refused."""
    with suppress(OSError, Timeout):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder / FILE}.lock", timeout=WAIT):
            content = json.dumps(stored(folder) | dict(seconds), indent=0, sort_keys=True)
            write_atomically(folder / FILE, content.encode())


def means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Returns the mean of each key's seconds, to the millisecond."""
    found: dict[str, list[float]] = {}
    for key, seconds in pairs:
        found.setdefault(key, []).append(seconds)
    return {key: round(sum(all_) / len(all_), 3) for key, all_ in found.items()}
