"""Recommends a method for each subject of a run: expected gain with its interval, damage, cost, and
whether the difference is significant.

airepair recommend reports/out
airepair recommend reports/out --subject digits-fc

Gains are on the validation split. The bar is the best control: a method that fine-tuning equals is
not recommended.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which records, and which of their subjects."""
    parser.set_defaults(body="airepair.cli.commands.recommend")
    parser.add_argument(
        "records", nargs="+", type=Path, metavar="DIR|FILE", help="records (.jsonl) or folders of them"
    )
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="DATASET-MODEL",
        help="only this subject (repeat for several)",
    )
