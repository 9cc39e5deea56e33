"""Warnings of the libraries that read and write model files: about their own affairs, with their
own paths, nothing a user could act on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Nothing is warned or logged, short of errors; what is printed is."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nor is anything printed: torch.export prints a whole graph where it gives up."""
    with (
        without_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield
