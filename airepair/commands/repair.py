"""Repairs a model with one or several methods, and says what became of it: the paper's command line.

examples
  a file of your own, three methods:
    airepair repair --method apricot deeprepair dl2 --pretrained cifar10_resnet34_baseline.pt \\
      --dataset cifar10 --net_arch resnet --depth 34
  a subject of the grid, trained here if need be, with options:
    airepair repair --method deeprepair --dataset digits --net_arch cnn --additional_param "--lr 0.01 --epoch 20"
  how good a model is, without any repair:
    airepair repair --testonly --pretrained model.h5 --dataset mnist --input-range 0..255
  what an earlier run found, and the same run again:
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

from airepair.errors import UsageError
from airepair.models.feeding import Brought, add_feeding_arguments
from airepair.records import Record

if TYPE_CHECKING:
    from airepair.runs.folder import RunFolder
    from airepair.runs.repairing import Wish
    from airepair.runs.targets import Place, Target
    from airepair.settings import Chosen

JOINED = ("--additional_param", "--additional-param")


def words(given: Sequence[str]) -> list[str]:
    """The words with `--additional_param --lr=0.01` as one: argparse would take its value for an option."""
    found: list[str] = []
    for word in given:
        if found and found[-1] in JOINED:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is repaired, how, and where it goes; then how a brought file is fed."""
    parser.usage = "airepair repair --method M [M ...] --dataset NAME (--pretrained FILE | --net_arch ARCH) [options]"
    what = parser.add_argument_group("what is repaired")
    what.add_argument("--pretrained", "--pre-trained", metavar="FILE", help="a model file of any format of docs/formats.md (default: ours)")
    what.add_argument("--dataset", metavar="NAME", help="mnist, fmnist, cifar10, cifar100, digits, npz:PATH or folder:PATH")
    arch = "resnet, cnn, mnist, fmnist, fc, a name of `airepair list models`, package.module:factory or file.py:Net"
    what.add_argument("--net_arch", "--net-arch", metavar="ARCH", help=f"architecture: {arch}; told from the file where it can be")
    what.add_argument("--depth", type=int, metavar="N", help="depth of a resnet: 18, 34, 50 or 20, 32, 44, 56")
    what.add_argument("--all", action="store_true", help="every method (or --method) on every pre-trained model there is")
    what.add_argument("--models", type=Path, metavar="DIR", help="with --all: the folder of model files (default: the trained baselines)")
    how = parser.add_argument_group("how")
    how.add_argument("--method", nargs="+", metavar="M", help="of `airepair list methods`, a+b, package.module:Class or tool:NAME; several")
    how.add_argument(
        "--auto", action="store_true", help="the best known settings for data set, model and method (those of `airepair tune` too)"
    )
    texts = "options of the methods; a bare one goes to each method that has it, apricot.rate to one"
    how.add_argument("--additional_param", "--additional-param", action="append", metavar='"--lr 0.01"', help=texts)
    how.add_argument("--set", action="append", dest="assignments", metavar="METHOD.OPTION=VALUE", help="an option of one method")
    how.add_argument("--seeds", "--seed", metavar="0,1,2", help="seeds (default: 0)")
    how.add_argument("--profile", metavar="NAME", help="how much data: smoke (digits), cpu, paper, gpu, none: whole (default: as the grid)")
    how.add_argument("--time-limit", type=float, metavar="SECONDS", help="limit of one repair")
    how.add_argument("--device", metavar="DEVICE", help="auto (default), cpu, cuda or cuda:N")
    how.add_argument("--pgd", action="store_true", help="attack every model by projected gradient as well")
    instead = parser.add_argument_group("instead of a repair")
    instead.add_argument("--testonly", "--test-only", action="store_true", help="accuracy, constraint and confusion of the model as it is")
    instead.add_argument("--input_logs", "--input-logs", type=Path, metavar="FILE|DIR", help="show the results of an earlier run")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--config", type=Path, metavar="FILE", help="run config.toml of an earlier run again; what is given here counts first"
    )
    files.add_argument("--out", type=Path, metavar="DIR", help="folder of this run, new or empty (default: runs/DATE-TIME-SUBJECT)")
    add_feeding_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Repairs, tests or shows; 0 when a model was repaired and no cell failed, else 1."""
    from airepair.runs import config, folder

    if args.input_logs:
        return _show_logs(args.input_logs)
    fixed = config.apply(args, args.config) if args.config else {}
    folder.check(args.out)
    methods = _methods(args)
    place = _place(args)
    targets = _targets(args, place)
    if args.testonly:
        return _test(args, targets, place)
    return _repair(args, _wish(args, methods, place, fixed), targets)


def _show_logs(path: Path) -> int:
    from airepair.records import read
    from airepair.report import terminal
    from airepair.report.paper import default_path

    records, remarks = read([path])
    _print_results(records)
    print(terminal(records, default_path(), width=_width(), bold=sys.stdout.isatty()), end="")
    for line in remarks:
        print(line)
    return 0


def _print_results(records: Sequence[Record]) -> None:
    from airepair.report.before_after import advice, before_after
    from airepair.report.grid import grid
    from airepair.report.text import terminal

    cells = grid(records)
    print(terminal(before_after(cells), _width()))
    for line in advice(cells):
        print(f"Which method suits, by validation: {line}")


def _width() -> int:
    return shutil.get_terminal_size((140, 24)).columns


def _methods(args: argparse.Namespace) -> tuple[str, ...]:
    """The methods of the run, each once. UsageError for unknown ones and where none is given."""
    from airepair.methods import METHODS

    named = [w for text in args.method or [] for w in text.split(",") if w]
    if args.testonly:
        return ()
    if not named and not args.all:
        raise UsageError(f"--method is missing; accepted: {', '.join(METHODS.names())}, several with spaces, or --all")
    for name in named:
        METHODS.check(name)
    return tuple(dict.fromkeys(named or _every_method()))


def _every_method() -> list[str]:
    """What `--all` runs: each method that can be imported; the others are reported."""
    from airepair.methods import METHODS

    broken = METHODS.broken()
    for reason in broken.values():
        print(f"airepair: left out: {reason}", file=sys.stderr)
    return [name for name in METHODS.names() if name not in broken]


def _place(args: argparse.Namespace) -> Place:
    import torch

    from airepair import settings
    from airepair.commands.train import device_of
    from airepair.places import cache
    from airepair.runs.targets import Place, dataset_name, told_dataset

    if args.dataset is None and args.pretrained and not Path(args.pretrained).expanduser().exists():
        raise UsageError(f"--pretrained {args.pretrained}: there is no such file; accepted: a model file (docs/formats.md)")
    if args.dataset is None and args.pretrained:
        args.dataset = told_dataset(Path(args.pretrained).expanduser())
    if args.dataset is not None:
        args.dataset = dataset_name(args.dataset)
    device = device_of(args.device or "auto")
    if device.type == "cpu":
        torch.set_num_threads(1)  # the same scores on every run (docs/protocol.md)
    if args.profile not in (None, "none"):
        settings.profile(args.profile)
    if args.time_limit is not None and not 0 < args.time_limit < float("inf"):
        raise UsageError(f"--time-limit {args.time_limit:g} is out of range; accepted: seconds above 0")
    return Place(args.profile, device, cache())


def _targets(args: argparse.Namespace, place: Place) -> list[Target]:
    from airepair.data import DATASETS
    from airepair.errors import choose
    from airepair.models.feeding import case_name
    from airepair.runs.targets import Target, every_model, grid_model
    from airepair.subjects.brought import brought_from

    if args.dataset and not args.dataset.startswith(("npz:", "folder:")):
        choose("data set", args.dataset.partition("+")[0], DATASETS.names())
    if args.models and not args.all:
        raise UsageError(f"--models {args.models} is for --all; accepted: --pretrained FILE for one model")
    if args.all and not args.pretrained and not (args.dataset and args.net_arch):
        asked = brought_from(args, Path()) if args.models else Brought(Path())
        return every_model(args.models, args.dataset, asked, place.cache)
    if args.dataset is None:
        raise UsageError(f"--dataset is missing; accepted: {', '.join(DATASETS.names())}, npz:PATH, folder:PATH")
    if args.pretrained:
        brought = brought_from(args)
        return [Target(args.dataset, case_name(brought.path), brought)]
    if args.net_arch is None:
        raise UsageError("--net_arch is missing; accepted: a name of `airepair list models`, or --pretrained FILE")
    if args.profile == "none":
        raise UsageError("--profile none is for --pretrained; accepted: paper, for the whole data set")
    return [Target(args.dataset, grid_model(args.net_arch, args.depth))]


def _seeds(text: str | None) -> tuple[int, ...]:
    parts = [w.strip() for w in (text or "0").split(",") if w.strip()]
    if not parts or not all(w.isdigit() for w in parts) or len(set(parts)) != len(parts):
        raise UsageError(f"--seeds {text!r} is no list of different seeds; accepted: 0,1,2 or a single one")
    return tuple(map(int, parts))


def _wish(args: argparse.Namespace, methods: tuple[str, ...], place: Place, fixed: dict[str, Chosen]) -> Wish:
    from airepair.runs.additional import given_options
    from airepair.runs.repairing import Wish
    from airepair.types import Limit

    return Wish(
        methods=methods,
        seeds=_seeds(args.seeds),
        place=place,
        options=given_options(methods, args.additional_param or [], args.assignments or []),
        fixed={} if args.all else fixed,
        auto=args.auto,
        limit=Limit(seconds=args.time_limit),
        failing=args.failing,
        keep=args.keep,
        pgd=args.pgd,
        net_arch=args.net_arch,
        lenient=len(_one(args)) == 0,
    )


def _one(args: argparse.Namespace) -> list[str]:
    """What names the one model of the run; empty where `--all` looks for models."""
    return [w for w in (args.pretrained, args.net_arch if args.dataset else None, None if args.all else "one") if w]


def _repair(args: argparse.Namespace, wish: Wish, targets: list[Target]) -> int:
    from airepair.runs.folder import RUNS, make
    from airepair.runs.repairing import Run, untuned
    from airepair.runs.show import showing
    from airepair.runs.targets import expected
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
        folder.write_config(_config(args, wish, targets))
        return folder

    show = showing(log)
    state = Run(wish, open_folder, show)
    cells = sum(len(t.seeds or wish.seeds) for t in targets) * len(wish.methods)
    if args.all:
        time_text = expected(wish.methods, cells, args.out.parent if args.out else RUNS)
        show.say(f"--all: {len(targets)} models x {len(wish.methods)} methods, {cells} repairs; time: {time_text}")
    if wish.auto and not tables(True)[1:]:
        show.say("--auto: no table of tuned settings is installed (airepair tune --install writes one); settings.toml's are used")
    elif wish.auto and (plain := untuned(wish, targets)):
        show.say(f"--auto: no tuned settings for {', '.join(plain)}: those of settings.toml are used")
    try:
        with show:
            state.repair(targets)
    except KeyboardInterrupt:
        log("interrupted")
        raise
    finally:
        if state.folder is not None:
            state.folder.write_report(state.records, [*state.files, *state.left_out])
    return _end(state.records, state.folder)


def _config(args: argparse.Namespace, wish: Wish, targets: list[Target]) -> str:
    """The run as a file; the options of several models may differ and come from the tables again, those of one stand in it."""
    from airepair.methods import build
    from airepair.prepared import options_of
    from airepair.runs.config import text_of
    from airepair.runs.repairing import chosen_for
    from airepair.settings import Chosen

    profile = args.profile or (None if wish.lenient else wish.place.profile(targets[0].dataset))
    resolved = argparse.Namespace(**vars(args) | {"profile": profile, "device": str(wish.place.device)})
    resolved.method, resolved.seeds = list(wish.methods), ",".join(map(str, wish.seeds))
    cells = {}
    for method in wish.methods:
        chosen = chosen_for(wish, targets[0], method)
        options = options_of(build(method, chosen.options)) if not wish.lenient else dict(wish.options.get(method, {}))
        cells[method] = Chosen(options, chosen.origins if not wish.lenient else {})
    facts = {"subject": ", ".join(t.name for t in targets[:8]) + (", ..." if len(targets) > 8 else "")}
    return text_of(resolved, cells, facts)


def _end(records: Sequence[Record], folder: RunFolder | None) -> int:
    if folder is None:
        print("airepair: nothing ran: no model could be loaded", file=sys.stderr)
        return 1
    _print_results(records)
    print(f"{folder.path}: models/, report.md, config.toml, log.txt, records.jsonl")
    bad = [r for r in records if r.status in ("failed", "crashed", "out of memory")]
    return 1 if bad or not any(r.status == "repaired" for r in records) else 0


def _test(args: argparse.Namespace, targets: list[Target], place: Place) -> int:
    from airepair.report.text import terminal
    from airepair.runs.show import showing
    from airepair.runs.testing_only import confusion_lines, examined, scores_table

    prepared = []
    with showing(lambda _: None) as show:
        for target in targets:
            for seed in target.seeds or _seeds(args.seeds):
                prepared.append(examined(target, seed, place, show, failing=args.failing, pgd=args.pgd))
    print(terminal(scores_table(prepared), _width()))
    for ready in prepared:
        for line in confusion_lines(ready):
            print(line)
    return 0
