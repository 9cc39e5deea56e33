"""Converts a model file."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.formats import open_model
from airepair.formats.at_logits import at_logits
from airepair.formats.export import TARGETS, export, refuse_target
from airepair.formats.fidelity import check_inputs
from airepair.formats.heads import PROBED
from airepair.formats.model_file import ModelFile
from airepair.formats.torch.programs import AsItIs, guessed_shape
from airepair.models.layouts import Shape, written
from airepair.models.names import model_name
from airepair.models.recognise import load
from airepair.models.user_code import OwnCode, is_own_code, own_code


def run(args: argparse.Namespace) -> int:
    """Converts and prints; 0 when the written file is the same function."""
    shape = shape_of(args.shape)
    refuse_target(args.target)
    own = own_code(args.net_arch) if is_own_code(args.net_arch) else None
    opened = open_model(
        args.source,
        architecture=_architecture(args, shape, own),
        classes=own.layers if own else (),
        shape=shape,
        trust_pickle=args.trust_pickle,
        trust_lambda=args.trust_lambda,
        weights=args.weights,
    )
    if isinstance(opened.module, AsItIs):
        raise UsageError(f"{args.source}: {opened.notes[0]}; that cannot be written in another format")
    if shape and opened.shape and shape != opened.shape:
        raise UsageError(
            f"--shape {args.shape}: {args.source} takes images of {','.join(map(str, opened.shape))}"
        )
    size = opened.shape or shape or guessed_shape(opened.module, str(args.source))
    count = sum(p.numel() for p in opened.module.parameters())
    print(f"{args.source}: {opened.kind}, images of {written(size)}, {count:,} parameters")
    images = torch.from_numpy(check_inputs(size)[:PROBED])

    def answers(module: nn.Module) -> Tensor:
        found = module(images)
        if not isinstance(found, Tensor):
            raise UsageError(
                f"{args.source}: the network returns {type(found).__name__}; accepted: a tensor of logits"
            )
        return found

    try:
        opened = at_logits(opened, answers, str(args.source))
    except UsageError:
        raise
    except Exception as error:  # whatever a user's network raises on what it does not take
        stated = args.shape or "x".join(map(str, size))
        raise UsageError(
            f"--shape {stated!r}: {args.source} does not take such images: {one_line(error, 160)}"
        ) from None
    _say("read", opened)
    fidelity = export(opened.module, size, args.target, opened.feed)
    print(f"{args.target}: {TARGETS[args.target.suffix][0]}")
    print(f"  written: {fidelity}")
    if args.target.suffix == ".safetensors":
        print(
            "  a state dict holds weights only: loading it also needs the network and the scaling of its "
            "input"
        )
    return 0


def shape_of(text: str | None) -> Shape | None:
    """`3,32,32` -> (3, 32, 32); `28,28` and `784` for inputs without channels. UsageError for
    anything else.
    """
    if text is None:
        return None
    words = text.replace("x", ",").split(",")
    most = 4096 if len(words) == 3 else 1 << 20
    if len(words) > 3 or not all(w.strip().isdigit() and 0 < int(w) <= most for w in words):
        raise UsageError(
            f"--shape {text!r} is not understood; accepted: channels,height,width, for example 3,32,32, "
            f"or 28,28 or 784"
        )
    return tuple(map(int, words))


def _architecture(args: argparse.Namespace, shape: Shape | None, own: OwnCode | None) -> Any:
    """Tensors of the file -> the network with them; the last dense layer's size is the number of classes."""
    if own is not None:
        return lambda weights: own.load(
            weights, next((len(t) for t in reversed(weights.values()) if t.ndim == 2), 10)
        )
    name = model_name(args.net_arch, args.depth, args.width) if args.net_arch else None
    image = (shape[0], shape[1], shape[2]) if shape and len(shape) == 3 else None
    return lambda weights: load(weights, name, image)


def _say(verb: str, opened: ModelFile) -> None:
    print(f"  {verb}: {opened.fidelity or 'unchanged, nothing was converted'}")
    for note in opened.notes:
        print(f"  {note}")
    if opened.feed:
        scale, offset = (
            ", ".join(f"{v:.6g}" for v in values) for values in (opened.feed.scale, opened.feed.offset)
        )
        print(
            f"  scaling at its input ({opened.feed.source}): x * ({scale}) + ({offset}); "
            f"it is written into the target too"
        )
