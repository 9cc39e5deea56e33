"""Runs the measurements, prints their table, and writes it with its numbers: `python -m
benchmarks.perf --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from airepair.runner.provenance import provenance

from .table import markdown
from .timing import Measure, clock

GROUPS = ("training", "submodels", "oracle", "population", "evaluation", "precision", "agreement", "packages")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser("python -m benchmarks.perf", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", metavar="A,B", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each comparison")
    parser.add_argument("--share", type=float, default=1.0, help="part of the images, for a quick look")
    parser.add_argument(
        "--threads", type=int, default=1, help="on the CPU; the cells of the benchmark run with one"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/perf"), metavar="DIR")
    found = parser.parse_args(words)
    wrong = [g for g in found.only.split(",") if g not in GROUPS]
    if wrong or found.repeats < 1 or not 0 < found.share <= 1:
        parser.error(
            f"--only {found.only} --repeats {found.repeats} --share {found.share}; accepted: "
            f"{', '.join(GROUPS)}; 1 or more; up to 1"
        )
    return found


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """The content of the JSON file."""
    options = arguments(words)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    device, start = torch.device(kind), time.monotonic()
    if kind == "cpu":
        torch.set_num_threads(options.threads)
    loads, measured = [load()], []
    for group in options.only.split(","):
        for measure in import_module(f"{__package__}.{group}").measures(
            device, options.repeats, options.share
        ):
            print(line(measure), flush=True)
            measured.append(measure.as_json())
        loads.append(load())
    seconds = "CPU seconds of the process" if clock(device) is time.process_time else "seconds of the wall"
    facts = {
        "clock": seconds,
        "load": loads,
        "seconds": round(time.monotonic() - start, 1),
        "share": options.share,
    }
    content = {"provenance": provenance(device, "perf", {}), **facts, "measures": measured}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{kind}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (options.out / f"{kind}.md").write_text(markdown(content), encoding="utf-8")
    print(f"{facts['seconds']} s; wrote {options.out / kind}.json and .md")
    return content


def load() -> float:
    """How many processes wanted a core in the last minute: what the reader must know of a shared machine."""
    return round(os.getloadavg()[0], 2)


def line(measure: Measure) -> str:
    """As it is printed while it runs."""
    mark = {
        True: "",
        False: "  below what is wanted" if not measure.most else "  above what is wanted",
        None: "",
    }[measure.reached]
    spread = f"{measure.median:8.2f} ({min(measure.ratios):.2f} to {max(measure.ratios):.2f})"
    return f"{measure.group:11} {spread:28} {measure.slow} / {measure.fast}: {measure.name}{mark}"


if __name__ == "__main__":
    main()
