"""Before Ray is imported: whether it can be, whether somebody listens at the address, and what Ray
reads from the environment. Free of Ray.

Ray needs nine minutes to say that nobody is at an address. By default its daemons listen on every
interface; a cluster of this machine listens on the loopback one and asks for a token
(https://docs.ray.io/en/latest/ray-security/index.html).
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from importlib.util import find_spec

from airepair.errors import UsageError, one_line

PATIENCE = 5.0  # seconds for a connection
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"
}  # Ray's switch for 127.0.0.1 on every system (ray-project/ray#18730)


def check(address: str | None) -> None:
    """Raises UsageError without Ray, for a word that is no address, and if nobody listens there."""
    if find_spec("ray") is None:
        raise UsageError(
            "--engine ray: Ray is not installed; accepted: pip install 'airepair[ray]', or --engine local"
        )
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(
            f"--ray-address {address!r} is no address; accepted: HOST:PORT (a cluster's GCS, "
            f"usually port 6379) or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise UsageError(
            f"--ray-address {address}: nobody listens there ({one_line(error)}); accepted: "
            f"the address that `ray start --head` prints"
        ) from None


def environment(address: str | None, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the variables that Ray reads when it is imported; what the user has set stands."""
    wanted = dict(QUIET)
    if address is None:
        wanted |= LOOPBACK | {"RAY_AUTH_MODE": "token"}
        if "RAY_AUTH_TOKEN_PATH" not in given:
            wanted["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif address.rpartition(":")[0] in ("127.0.0.1", "localhost"):
        wanted |= LOOPBACK
    return {name: value for name, value in wanted.items() if name not in given}
