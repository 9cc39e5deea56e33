"""A module or code of a user's own that ends in a softmax: taken off for the repair where its
structure shows it, and left in its file.

Methods take the logits: with probabilities for them a constraint is never met, and a loss that
applies its own softmax learns little. Files of other frameworks are cut when they are converted;
this is for modules that are repaired as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from airepair.errors import UsageError
from airepair.formats.fidelity import Fidelity, compare
from airepair.formats.heads import HEADS, head_in, head_note, headed
from airepair.formats.model_file import ModelFile

LAYERS = (nn.Softmax, nn.LogSoftmax)
FUNCTIONS = {F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax}
LOGARITHMS = {torch.log, Tensor.log}


# Runs a module on a few inputs: N x K, or whatever else a user's network returns.
Answers = Callable[[nn.Module], object]


def at_logits(opened: ModelFile, answers: Answers, what: str) -> ModelFile:
    """Returns the opened file with a module of logits, where its own ends in a softmax or
    log-softmax; itself where it does not, or returns no tensor.

    `answers` gets the opened module, or one that takes the same inputs. UsageError if the answers are
    probabilities and the structure does not show where the logits are.
    """
    with torch.no_grad():
        ends = answers(opened.module)
    if not isinstance(ends, Tensor):
        return opened
    head = head_in(ends.detach().cpu().double().numpy())
    if not head:
        return opened
    found = next((m for m in _without(opened.module) if _same(answers, m, ends, head)), None)
    if found is None:
        kind = "probabilities" if head == "softmax" else "log-probabilities"
        raise UsageError(
            f"{what} answers with {kind}, and a repair needs the logits before its {HEADS[head]}, "
            f"which its structure does not show; "
            "accepted: a network whose forward returns the logits (leave out the last step, "
            "and save it again)"
        )
    prefix = "net." if isinstance(found, BeforeSoftmax) else ""

    def writer(repaired: nn.Module, out: Path) -> Fidelity | None:
        whole = copy.deepcopy(opened.module)
        whole.load_state_dict({k.removeprefix(prefix): v for k, v in repaired.state_dict().items()})
        return opened.writer(whole, out)

    layers = {prefix + k: v for k, v in opened.layers.items()}
    return replace(opened, module=found, writer=writer, layers=layers, notes=(*opened.notes, head_note(head)))


def _without(module: nn.Module) -> Iterator[nn.Module]:
    """The module with one of its softmax layers left out, and as it is before the call whose result
    it returns.
    """
    names = [name for name, layer in module.named_modules() if name and isinstance(layer, LAYERS)]
    for name in reversed(names):
        bare = copy.deepcopy(module)
        parent, _, last = name.rpartition(".")
        setattr(bare.get_submodule(parent), last, nn.Identity())
        yield bare.eval()
    yield BeforeSoftmax(copy.deepcopy(module)).eval()


def _same(answers: Answers, bare: nn.Module, ends: Tensor, head: str) -> bool:
    """Whether the head on what `bare` answers is what the network answers, and it answers with no
    distribution any more.
    """
    try:
        with torch.no_grad():
            found = answers(bare)
    except Exception:  # whatever a user's network raises without its softmax
        return False
    if not isinstance(found, Tensor):
        return False
    logits = found.detach().cpu().numpy()
    return not head_in(logits) and compare(ends.cpu().numpy(), headed(logits, head)).faithful


class BeforeSoftmax(nn.Module):
    """It returns what a network that applies a softmax as its last step, by a call, applied it to.

    If it applies none, its answer.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Maps the images to logits, N x K."""
        calls = _Calls()
        with calls:
            answer: Tensor = self.net(x)
        return calls.before(answer)


class _Calls(TorchFunctionMode):
    """Remembers what each softmax was applied to."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given: Any = args[0] if args else (kwargs or {}).get("input")
        if func in FUNCTIONS:
            self.made.append((found, given))
        elif func in LOGARITHMS and (source := self.before(given)) is not given:
            self.made.append((found, source))
        return found

    def before(self, value: Tensor) -> Tensor:
        """What the softmax that made `value` was applied to; `value` if none did."""
        return next((source for result, source in reversed(self.made) if result is value), value)
