"""Tunes methods: trials, the winner of each, the table."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from airepair.case import seeds_of
from airepair.cli.tuning.space import distributions, nearest, require_optuna, space_of
from airepair.cli.tuning.study import Trials
from airepair.cli.tuning.table import merged, read_rows, write_rows
from airepair.cli.tuning.trial import Bench, default_images, on, try_out
from airepair.data import DATASETS, registered_name
from airepair.engines.command import Cells
from airepair.engines.isolation import limits_of
from airepair.errors import UsageError, choose
from airepair.host.arithmetic.canary import arithmetic
from airepair.methods import METHODS
from airepair.options import Option
from airepair.paths import cache
from airepair.runner.device import device_of
from airepair.runner.loading import Loader
from airepair.runner.provenance import commit
from airepair.runner.specify import Shared
from airepair.settings import choose_options, profile, tuned_table


def run(args: argparse.Namespace) -> int:
    """Runs the trials that are left and writes the table; 0 when every method that is supported
    there has one that was repaired.
    """
    places = [(d, m) for d in _words("--dataset", args.dataset) for m in _words("--model", args.model)]
    seeds = seeds_of(args.seeds)
    for name in ("trials", "images", "seconds"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name} {value} is out of range; accepted: above 0")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file; accepted: a folder, new or of an earlier tuning")
    limits = limits_of(args.isolate_memory, args.isolate_gpu_memory, args.isolate_output)
    methods = _methods(args.method, args.open)
    spaces = {m: space_of(m, args.open) for m in methods}
    require_optuna()
    if args.remark:
        print(args.remark)
    found: dict[str, dict[str, Any] | None] = {}
    with closing(Cells(cache(), args.isolate, limits)) as cells:
        for dataset, model in places:
            bench = _bench(args, dataset, model, seeds, cells)
            for method in methods:
                found[f"{dataset}-{model}-{method}"] = _tune(args, bench, method, spaces[method])
    return _finish(args, [r for r in found.values() if r], [name for name, r in found.items() if r is None])


def _words(option: str, text: str) -> list[str]:
    found = [w.strip() for w in text.split(",") if w.strip()]
    if not found:
        raise UsageError(f"{option} {text!r} names nothing; accepted: one name or several with commas")
    if option == "--dataset":
        found = [registered_name(name) for name in found]
        for name in found:
            choose("data set", name.partition("+")[0], DATASETS.names())
    return found


def _methods(text: str, only_open: bool) -> list[str]:
    named = [w.strip() for w in text.split(",") if w.strip()]
    for name in named:
        METHODS.check(name)
    if named:
        return list(dict.fromkeys(named))
    found = []
    for name in METHODS.names():
        try:
            space_of(name, only_open)
            found.append(name)
        except UsageError as error:
            print(f"left out: {error}")
    return found


def _bench(args: argparse.Namespace, dataset: str, model: str, seeds: tuple[int, ...], cells: Cells) -> Bench:
    if args.profile:
        profile(args.profile)
    shared = Shared(
        device=str(device_of(args.device)), profile=args.profile, seconds=args.seconds, splits="validation"
    )
    bench = Bench(dataset, model, seeds, shared, Loader(cache(), most=len(seeds)), cells)
    return replace(bench, shared=replace(shared, images=args.images or default_images(bench)))


def _tune(
    args: argparse.Namespace, bench: Bench, method: str, space: dict[str, Option]
) -> dict[str, Any] | None:
    """Runs this process's share of the method's trials; its row of the table, {} where it is
    unsupported, None if there is none (yet).
    """
    name = f"{bench.dataset}-{bench.model}-{method}"
    facts = {
        "trials": args.trials,
        "images": bench.shared.images,
        "seconds": bench.shared.seconds,
        "profile": bench.profile,
    }
    facts |= {"open": True} if args.open else {}
    facts |= {"seeds": list(bench.seeds), "arithmetic": arithmetic(device_of(bench.shared.device))}
    default = _default(bench, method, space)
    first = {name: nearest(default[name], option) for name, option in space.items()}
    trials = Trials(args.out, name, distributions(space), first, facts, bench.seeds[0])
    while claim := trials.claim():
        options = {} if claim.number == 0 else dict(claim.options)
        result = try_out(bench, method, claim.number, options, args.out, facts)
        trials.tell(claim.number, result.value, result.reason)
        words = (
            ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())
            or "default settings"
        )
        images = max((r.budget.get("backward", 0) for r in result.records), default=0)
        said = result.reason if result.value is None else f"validation {result.value:.4f}, {images:,} images"
        print(f"{name}  trial {claim.number} of 0..{args.trials - 1}: {said}  ({words})", flush=True)
    return _row(bench, method, trials, default, args)


def _default(bench: Bench, method: str, space: dict[str, Option]) -> dict[str, Any]:
    """What the default settings have for the options that are searched."""
    given = choose_options(bench.dataset, bench.model, method, bench.profile, {}).options
    return {name: given.get(name, option.default) for name, option in space.items()}


def _row(
    bench: Bench, method: str, trials: Trials, default: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any] | None:
    finished, best = trials.finished(), trials.best()
    if len(finished) < args.trials:
        print(
            f"{trials.name}: {args.trials - len(finished)} of {args.trials} trials are still run by "
            f"other processes; no row yet"
        )
        return None
    if best is None:
        reason = finished[0].user_attrs.get("reason", "unknown")
        print(f"{trials.name}: no trial was repaired ({reason}); no row")
        return (
            {}
            if all(str(t.user_attrs.get("reason", "")).startswith("unsupported") for t in finished)
            else None
        )
    head, dirty = commit()
    where = f"commit {head[:7]}{' with changes' if dirty else ''}" if head else "no checkout"
    seeds = ", ".join(map(str, bench.seeds))
    size = f"{args.trials} trials of {bench.shared.images:,} images, seeds {seeds}"
    won = ", the default settings won" if best.number == 0 else f", trial {best.number}"
    device = on(torch.device(bench.shared.device))
    row = {"dataset": bench.dataset, "model": bench.model, "method": method}
    found = profile(bench.profile)
    if bench.dataset in found.images or bench.dataset in found.recipe:
        row["profile"] = bench.profile
    return {
        **row,
        "origin": f"tuned: {where}, {device}, {size}{won}",
        "options": default if best.number == 0 else dict(best.params),
    }


def _finish(args: argparse.Namespace, rows: list[dict[str, Any]], failed: list[str]) -> int:
    places = [args.out / "tuned.toml", *([tuned_table()] if args.install else [])]
    for path in places:
        if rows:
            write_rows(path, merged(read_rows(path), rows))
            print(f"{path}: {len(rows)} rows written")
    if failed:
        print(f"no row for {', '.join(failed)}")
    return 1 if failed else 0
