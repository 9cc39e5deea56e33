"""Prints a table of docs/formats.md, or puts its rows into the page (table.py)."""

from __future__ import annotations

import sys

from benchmarks.fidelity.table import main

sys.exit(main())
