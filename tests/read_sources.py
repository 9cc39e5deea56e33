"""What a process knows of source files, for the tests that edit one."""

from airepair.host import source_code


def forget_sources() -> None:
    """Source files are read anew, as in a process that was not asked before."""
    for kept in (source_code._closure, source_code._code, source_code._file):
        kept.cache_clear()
