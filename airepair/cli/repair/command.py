"""Repairs a model with one or several methods and reports the result: the paper's command line.

examples
  a file of your own, three methods:
    airepair repair --method apricot deeprepair dl2 --pretrained cifar10_resnet34_baseline.pt \\
      --dataset cifar10 --net_arch resnet --depth 34
  a subject of the grid, trained here if need be, with options:
    airepair repair --method deeprepair --dataset digits --net_arch cnn --additional_param "--lr 0.01 --epoch 20"
  evaluate a model without repairing it:
    airepair repair --testonly --pretrained model.h5 --dataset mnist --input-range 0..255
  show an earlier run, and repeat it:
    airepair repair --input_logs runs/20250101-120000-digits-cnn
    airepair repair --config runs/20250101-120000-digits-cnn/config.toml
  every method on every model file of a folder:
    airepair repair --all --models my_models/ --dataset cifar10

Each run leaves a folder, by default runs/DATE-TIME-SUBJECT: models/ (repaired), report.md, config.toml, log.txt, records.jsonl, cells/.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airepair.arithmetic.setup import set_up
from airepair.cli.repair.arguments import add_arguments, words
from airepair.errors import printable
from airepair.paths import cache
from airepair.records import Record
from airepair.settings import wants_portable

if TYPE_CHECKING:
    from airepair.cli.repair.folder import RunFolder
    from airepair.cli.repair.run import Run, Wish
    from airepair.cli.repair.targets import Target
    from airepair.runner.specify import Shared

__all__ = ["add_arguments", "run", "words"]


def run(args: argparse.Namespace) -> int:
    """Repairs, tests or shows; 0 when a model was repaired, none was left out and no cell failed, else 1."""
    from airepair.cli.repair import config

    if args.input_logs:
        return _show_logs(args.input_logs)
    fixed = config.apply(args, args.config) if args.config else {}
    remark = set_up(portable=not args.native and wants_portable(_datasets(args), args.profile))  # before the next line loads torch
    from airepair.cli.repair import folder
    from airepair.cli.repair.request import methods_of, shared_of, targets_of, wish_of

    folder.check(args.out)
    methods = methods_of(args)
    shared = shared_of(args)
    targets = targets_of(args)
    if args.testonly:
        return _test(args, targets, shared, remark)
    return _repair(args, wish_of(args, methods, shared, fixed), targets, remark)


def _datasets(args: argparse.Namespace) -> list[str]:
    """The data sets of the run, as far as they are known before anything is loaded: the named one, with --all those of the trained baselines."""
    if args.dataset:
        return [args.dataset]
    every_baseline = args.all and not args.models and not args.pretrained
    return [file.name.partition("-")[0] for file in cache().glob("*.safetensors")] if every_baseline else []


def _show_logs(path: Path) -> int:
    from airepair.records import scan
    from airepair.report import terminal
    from airepair.report.paper import default_path

    found = scan([path])
    for line in found.refused:
        print(f"airepair: {printable(line)}", file=sys.stderr)
    if found.records or not found.refused:
        _print_results(found.records)
        print(terminal(found.records, default_path(), width=_width(), bold=sys.stdout.isatty()), end="")
    for line in found.remarks:
        print(line)
    return 2 if found.refused else 0


def _print_results(records: Sequence[Record]) -> None:
    from airepair.report.before_after import before_after
    from airepair.report.cells import grid
    from airepair.report.recommend import recommendations
    from airepair.report.text import terminal
    from airepair.report.tuned_costs import tuned_costs

    cells = grid(records)
    print(terminal(before_after(cells), _width()))
    for line in recommendations(cells):
        print(f"Recommendation for {line}")
    for line in tuned_costs(cells):
        print(line)


def _width() -> int:
    return shutil.get_terminal_size((140, 24)).columns


def _repair(args: argparse.Namespace, wish: Wish, targets: list[Target], remark: str) -> int:
    from airepair.cli.repair.folder import RUNS, make
    from airepair.cli.repair.progress import showing
    from airepair.cli.repair.run import Run, methods_for, untuned
    from airepair.cli.repair.targets import expected
    from airepair.settings import tables

    early: list[str] = []
    made: list[RunFolder] = []

    def log(text: str) -> None:
        made[0].log(text) if made else early.append(text)

    def open_folder() -> RunFolder:
        folder = make(args.out, "all" if wish.lenient else targets[0].name)
        made.append(folder)
        for line in early:
            folder.log(line)
        if remark:  # a run begins: bad input is one line of its own
            show.say(remark)
        folder.write_config(_config(args, wish, targets))
        return folder

    show = showing(log)
    state = Run(wish, open_folder, show)
    cells = sum(len(t.seeds or wish.seeds) * len(methods_for(wish, t)) for t in targets)
    if args.all:
        time_text = expected(wish.methods, cells, args.out.parent if args.out else RUNS)
        show.say(f"--all: {len(targets)} models x {len(wish.methods)} methods, {cells} repairs; time: {time_text}")
    if wish.auto and not tables(True)[1:]:
        show.say("--auto: no table of tuned settings is installed (airepair tune --install writes one); using those of settings.toml")
    elif wish.auto and (plain := untuned(wish, targets)):
        show.say(f"--auto: no tuned settings for {', '.join(plain)}: using those of settings.toml")
    try:
        with show:
            state.repair(targets)
    except KeyboardInterrupt:
        log("interrupted")
        raise
    finally:
        if state.folder is not None:
            state.folder.write_report(state.records, [*state.files, *state.left_out])
    return _end(state)


def _config(args: argparse.Namespace, wish: Wish, targets: list[Target]) -> str:
    """The run as a file; the options of several models may differ and come from the tables again, those of one stand in it."""
    from airepair.case import split_variant
    from airepair.cli.repair.config import text_of
    from airepair.cli.repair.run import chosen_for, methods_for
    from airepair.methods import build
    from airepair.runner.prepared import options_of
    from airepair.settings import Chosen

    profile = args.profile or (None if wish.lenient else wish.shared.profile_of(targets[0].dataset))
    resolved = argparse.Namespace(**vars(args) | {"profile": profile, "device": wish.shared.device})
    methods = methods_for(wish, targets[0]) if not wish.lenient else list(wish.methods)
    resolved.method, resolved.seeds = methods, ",".join(map(str, wish.seeds))
    cells = {}
    for method in methods:
        chosen = chosen_for(wish, targets[0], method)
        plain = split_variant(method)[0]
        options = options_of(build(plain, chosen.options)) if not wish.lenient else dict(wish.options.get(plain, {}))
        cells[method] = Chosen(options, chosen.origins if not wish.lenient else {})
    facts = {"subject": ", ".join(t.name for t in targets[:8]) + (", ..." if len(targets) > 8 else "")}
    return text_of(resolved, cells, facts)


def _end(state: Run) -> int:
    """1 if a model was left out or a cell failed, or if nothing was repaired."""
    records, folder = state.records, state.folder
    if folder is None:
        print("airepair: nothing ran: no model could be loaded", file=sys.stderr)
        return 1
    _print_results(records)
    print(f"{folder.path}: models/, report.md, config.toml, log.txt, records.jsonl")
    for line in state.left_out:
        print(f"airepair: {line}", file=sys.stderr)
    bad = [r for r in records if r.status in ("failed", "crashed", "out of memory")]
    return 1 if bad or state.left_out or not any(r.status == "repaired" for r in records) else 0


def _test(args: argparse.Namespace, targets: list[Target], shared: Shared, remark: str) -> int:
    from airepair.case import seeds_of
    from airepair.cli.repair.progress import showing
    from airepair.cli.repair.testonly import confusion_lines, examined, scores_table
    from airepair.report.text import terminal

    results = []
    with showing(lambda _: None) as show:
        for target in targets:
            for seed in target.seeds or seeds_of(args.seeds or "0"):
                results.append(examined(target, seed, shared, show))
        if remark:  # not beside the one line of bad input
            show.say(remark)
    print(terminal(scores_table(results), _width()))
    for result in results:
        for line in confusion_lines(result):
            print(line)
    return 0
