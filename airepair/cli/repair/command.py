"""Repairs or evaluates: what `airepair repair` does once its words are read."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing

from airepair.case import seeds_of, split_variant
from airepair.cli.repair import folder
from airepair.cli.repair.config import text_of
from airepair.cli.repair.folder import RUNS, RunFolder, make
from airepair.cli.repair.logs import print_results, width
from airepair.cli.repair.progress import showing
from airepair.cli.repair.request import cells_of, methods_of, shared_of, targets_of, wish_of
from airepair.cli.repair.run import Run, Wish, chosen_for, methods_for, untuned
from airepair.cli.repair.targets import Target, expected
from airepair.cli.repair.testonly import confusion_lines, examined, scores_table
from airepair.engines.command import Cells
from airepair.methods import build
from airepair.report.text import terminal
from airepair.runner.prepared import options_of
from airepair.runner.specify import Shared
from airepair.settings import Chosen, tables


def run(args: argparse.Namespace) -> int:
    """Repairs or tests; 0 when a model was repaired, none was left out and no cell failed, else 1."""
    folder.check(args.out)
    methods = methods_of(args)
    shared = shared_of(args)
    targets = targets_of(args)
    if args.testonly:
        return _test(args, targets, shared)
    with closing(cells_of(args)) as cells:
        return _repair(args, wish_of(args, methods, shared, args.fixed), targets, cells)


def _repair(args: argparse.Namespace, wish: Wish, targets: list[Target], engine: Cells) -> int:
    early: list[str] = []
    made: list[RunFolder] = []

    def log(text: str) -> None:
        made[0].log(text) if made else early.append(text)

    def open_folder() -> RunFolder:
        folder = make(args.out, "all" if wish.lenient else targets[0].name)
        made.append(folder)
        for line in early:
            folder.log(line)
        if args.remark:  # a run begins: bad input is one line of its own
            show.say(args.remark)
        folder.write_config(_config(args, wish, targets))
        return folder

    show = showing(log)
    state = Run(wish, open_folder, show, engine)
    cells = sum(len(t.seeds or wish.seeds) * len(methods_for(wish, t)) for t in targets)
    if args.all:
        time_text = expected(wish.methods, cells, args.out.parent if args.out else RUNS)
        show.say(
            f"--all: {len(targets)} models x {len(wish.methods)} methods, {cells} repairs; time: {time_text}"
        )
    if wish.auto and not tables(True)[1:]:
        show.say(
            "--auto: no table of tuned settings is installed (airepair tune --install writes one); "
            "using those of settings.toml"
        )
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
    """The run as a file; the options of several models may differ and come from the tables again,
    those of one stand in it.
    """
    profile = args.profile or (None if wish.lenient else wish.shared.profile_of(targets[0].dataset))
    resolved = argparse.Namespace(**vars(args) | {"profile": profile, "device": wish.shared.device})
    methods = methods_for(wish, targets[0]) if not wish.lenient else list(wish.methods)
    resolved.method, resolved.seeds = methods, ",".join(map(str, wish.seeds))
    cells = {}
    for method in methods:
        chosen = chosen_for(wish, targets[0], method)
        plain = split_variant(method)[0]
        options = (
            options_of(build(plain, chosen.options))
            if not wish.lenient
            else dict(wish.options.get(plain, {}))
        )
        cells[method] = Chosen(options, chosen.origins if not wish.lenient else {})
    facts = {"subject": ", ".join(t.name for t in targets[:8]) + (", ..." if len(targets) > 8 else "")}
    return text_of(resolved, cells, facts)


def _end(state: Run) -> int:
    """1 if a model was left out or a cell failed, or if nothing was repaired."""
    records, folder = state.records, state.folder
    if folder is None:
        print("airepair: nothing ran: no model could be loaded", file=sys.stderr)
        return 1
    print_results(records)
    print(f"{folder.path}: models/, report.md, config.toml, log.txt, records.jsonl")
    for line in state.left_out:
        print(f"airepair: {line}", file=sys.stderr)
    bad = [r for r in records if r.status in ("failed", "crashed", "out of memory")]
    return 1 if bad or state.left_out or not any(r.status == "repaired" for r in records) else 0


def _test(args: argparse.Namespace, targets: list[Target], shared: Shared) -> int:
    results = []
    with showing(lambda _: None) as show:
        for target in targets:
            for seed in target.seeds or seeds_of(args.seeds or "0"):
                results.append(examined(target, seed, shared, show))
        if args.remark:  # not beside the one line of bad input
            show.say(args.remark)
    print(terminal(scores_table(results), width()))
    for result in results:
        for line in confusion_lines(result):
            print(line)
    return 0
