"""Solves a repair program for a model file and inputs."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airepair.data.arrays import listed, read_arrays
from airepair.errors import Unsupported, UsageError, one_line
from airepair.formats import open_model
from airepair.formats.at_logits import at_logits
from airepair.formats.fidelity import check_inputs
from airepair.formats.heads import PROBED
from airepair.formats.model_file import ModelFile
from airepair.linear.highs import Limits, Norm
from airepair.linear.optimum import Answer, second_best, smallest, wins
from airepair.models.layers import exact
from airepair.models.layouts import arranged, images_in, layouts_of
from airepair.models.names import model_name
from airepair.models.recognise import load

NEEDS = {"wins": "y", "second-best": "", "orders": "orders"}


def run(args: argparse.Namespace) -> int:
    """Solves and prints."""
    for name in ("margin", "bound", "seconds", "entries", "first"):
        value = getattr(args, name)
        fits = value is None or (0 <= value < math.inf if name == "margin" else value > 0)
        if not fits:
            accepted = "a finite number of 0 or more" if name == "margin" else "above 0"
            raise UsageError(f"--{name} {value} is out of range; accepted: {accepted}")
    arrays = _arrays(args)
    opened, x = _network_and_input(args, arrays["x"])
    triples = _triples(args, arrays, opened, x)
    about = {
        "model": str(args.model),
        "inputs": len(x),
        "norm": args.norm,
        "margin": args.margin,
        "bias": args.bias,
        "bound": args.bound,
    }
    try:
        norm, limits = Norm(args.norm, args.bound), Limits(args.seconds, args.entries)
        answer = smallest(
            opened.module,
            x,
            triples,
            layer=args.layer,
            norm=norm,
            margin=args.margin,
            bias=args.bias,
            limits=limits,
        )
    except Unsupported as error:
        print(
            json.dumps(about | {"status": "undecided", "reason": str(error)})
            if args.json
            else f"undecided: {error}"
        )
        return 1
    print(json.dumps(about | asdict(answer)) if args.json else "\n".join(_text(args, len(x), answer)))
    return 0 if answer.status == "optimal" else 1


def _arrays(args: argparse.Namespace) -> dict[str, Any]:
    found, held = read_arrays(args.inputs, ("x", "y", "orders"))
    missing = [k for k in ("x", NEEDS[args.require]) if k and k not in found]
    if missing:
        raise UsageError(
            f"{args.inputs} holds {listed(held)}; --require {args.require} needs {' and '.join(missing)}"
        )
    if found["x"].ndim < 2 or not len(found["x"]) or found["x"].dtype.kind not in "fiu":
        raise UsageError(
            f"{args.inputs}: x is {found['x'].shape} of {found['x'].dtype}; accepted: numbers, "
            f"N x C x H x W or N x features"
        )
    if not np.isfinite(found["x"]).all():
        raise UsageError(f"{args.inputs}: x holds values that are not finite")
    if "y" in found and (found["y"].dtype.kind not in "iu" or found["y"].shape != (len(found["x"]),)):
        raise UsageError(
            f"{args.inputs}: y is {found['y'].shape} of {found['y'].dtype}; accepted: "
            f"{len(found['x'])} whole numbers"
        )
    for key in ("x", "y"):
        if key in found and args.first:
            found[key] = found[key][: args.first]
    return found


def _network_and_input(args: argparse.Namespace, values: Any) -> tuple[ModelFile, Tensor]:
    """The network, and x as it takes it: axes as its own, scaled as the file itself scales."""
    shape = tuple(int(n) for n in values.shape[1:])
    images = images_in(values)
    given = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3])) if len(shape) == 3 else None
    name = model_name(args.net_arch, args.depth) if args.net_arch else None
    opened = open_model(
        args.model, architecture=lambda w: load(w, name, given), shape=given, trust_pickle=args.trust_pickle
    )
    if opened.shape not in (None, shape) and images is not None:
        layouts = layouts_of(opened.shape, images.shape[1:], opened.channels_last)
        values = arranged(images, layouts[0]) if layouts else values
    elif opened.shape is None and given:
        values = images
    x = torch.from_numpy(np.ascontiguousarray(values)).double()
    if opened.feed:
        scale, offset = (
            torch.tensor(v).double().view(1, -1, *([1] * (x.ndim - 2)))
            for v in (opened.feed.scale, opened.feed.offset)
        )
        x = x * scale + offset
    try:
        with torch.no_grad():
            logits = opened.module(x[:1].float())
    except Exception as error:
        raise UsageError(f"{args.model} does not take x of {shape}: {one_line(error)}") from error
    if logits.ndim != 2:
        raise UsageError(f"{args.model} answers with {tuple(logits.shape)}; accepted: N x classes")
    probes = torch.from_numpy(
        check_inputs(tuple(x.shape[1:]))[:PROBED]
    )  # x may be one input, whose logits add up to 1 by chance
    return at_logits(opened, lambda module: module(probes), str(args.model)), x


def _triples(args: argparse.Namespace, arrays: dict[str, Any], opened: ModelFile, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits = exact(opened.module)(x)
    n, classes = logits.shape
    if args.require == "wins":
        return wins(torch.from_numpy(arrays["y"]).long(), classes)
    if args.require == "second-best":
        return second_best(logits)
    orders = arrays["orders"]
    if orders.ndim != 2 or orders.shape[1] != 3 or orders.dtype.kind not in "iu":
        raise UsageError(
            f"{args.inputs}: orders is {orders.shape} of {orders.dtype}; accepted: "
            f"R x 3 whole numbers (input, winner, loser)"
        )
    orders = orders[orders[:, 0] < n] if args.first else orders
    if not len(orders) or orders.min() < 0 or orders[:, 0].max() >= n or orders[:, 1:].max() >= classes:
        raise UsageError(
            f"{args.inputs}: orders name inputs or classes that are not there; accepted: "
            f"inputs 0..{n - 1}, classes 0..{classes - 1}"
        )
    return torch.from_numpy(orders).long()


def _text(args: argparse.Namespace, inputs: int, answer: Answer) -> list[str]:
    bias = "and bias" if args.bias else "without bias"
    bound = f" within +-{args.bound:g}" if args.bound else ""
    what = f"layer {answer.layer} (weights {bias}, {answer.variables:,} variables{bound})"
    asked = (
        f"{answer.required:,} orders of {inputs:,} inputs, margin {args.margin:g}; "
        f"{answer.before:,} hold before"
    )
    work = f"{answer.rows:,} rows in {answer.programs} programs, {answer.seconds:.3f} s"
    if answer.status == "infeasible":
        return [f"proved infeasible: no change of {what} does it", asked, work]
    lines = [
        f"optimum {answer.optimum:.12g}  ({args.norm}, {answer.verdict}, duality gap {answer.gap:.1g})",
        what,
        asked,
    ]
    lines.append(f"L1 {answer.l1:.9g}, Linf {answer.linf:.9g}, {answer.changed:,} changed; {work}")
    where = "the decoupled network" if answer.decoupled else "the network"
    lines.append(f"checked in float64: {answer.after:,} of {answer.required:,} hold in {where}")
    if answer.decoupled:
        lines.append(f"folded into one channel (not guaranteed): {answer.folded:,} hold")
    return lines
