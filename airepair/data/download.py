"""One file from the net: to a temporary name, resumed where it was cut, verified, locked between
workers. Free of torch.

torchvision's own downloader writes to the final name and does not resume; this one uses its
addresses and md5 sums.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from airepair.errors import Unavailable, one_line
from airepair.host.digest import md5_of

CHUNK = 1 << 18
Progress = Callable[[str, int, int], None]  # name, bytes so far, bytes in all (0: unknown)


def fetch(
    urls: Sequence[str],
    target: Path,
    md5: str,
    *,
    progress: Progress = lambda *_: None,
    attempts: int = 6,
    timeout: float = 30.0,
) -> Path:
    """Returns `target` with that md5 sum, transferred only where it is not there yet.

    Unavailable, with the last reason, when every attempt failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, reason = target.with_name(f"{target.name}.part"), ""
    with FileLock(f"{target}.lock"):
        if target.exists() and md5_of(target) == md5:
            return target
        for attempt in range(attempts):
            url = urls[attempt % len(urls)]
            try:
                _continue(url, part, timeout, lambda done, total: progress(target.name, done, total))
            except (OSError, http.client.HTTPException) as error:
                reason = f"{url}: {one_line(error)}"
                continue
            found = md5_of(part)
            if found == md5:
                os.replace(part, target)
                return target
            part.unlink()
            reason = f"{url}: md5 {found}, expected {md5}"
    kept = (
        f"; {part.stat().st_size:,} bytes are kept and the next try goes on from there"
        if part.exists() and part.stat().st_size
        else ""
    )
    raise Unavailable(f"{target.name} could not be fetched ({reason}){kept}")


def _continue(url: str, part: Path, timeout: float, progress: Callable[[int, int], None]) -> None:
    """Appends to `part` what is missing; ConnectionError if the transfer ends too early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "airepair", **({"Range": f"bytes={have}-"} if have else {})}
    )
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what we have: the md5 sum decides
            return
        raise
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        done = have if resumed else 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if resumed else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                progress(done, total)
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
