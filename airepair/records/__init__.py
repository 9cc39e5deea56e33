"""Records: one JSON line per finished cell, appended at once by the process that ran it, and
checked when it is read. Free of torch.
"""

from airepair.records.files import Found, append, mended, read, scan, since
from airepair.records.record import FINISHED, SAME_NORM, STATUSES, Phase, Record, version
from airepair.records.schema import SCHEMA, Status
from airepair.records.standing import current, resumed, standing

__all__ = [
    "FINISHED",
    "SAME_NORM",
    "SCHEMA",
    "STATUSES",
    "Found",
    "Phase",
    "Record",
    "Status",
    "append",
    "current",
    "mended",
    "read",
    "resumed",
    "scan",
    "since",
    "standing",
    "version",
]
