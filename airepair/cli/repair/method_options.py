"""The options that a person gives to methods on a command line: `--additional_param "--lr 0.01 --epoch
20"` and `--set apricot.rate=0.5`.

A bare option goes to every method of the run that has it, `apricot.rate` to one. Free of torch
until the methods are described.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from airepair.case import split_variant
from airepair.errors import UsageError, choose
from airepair.methods import METHODS
from airepair.options import describe, split_assignment

# Names that mean the same option; a method has one of each line (deeprepair says epoch, dl2 says
# epochs, as their papers' code does).
ALIASES: tuple[tuple[str, ...], ...] = (
    ("epoch", "epochs", "num_epochs"),
    ("lr", "learning_rate"),
    ("batch_size", "batch"),
    ("lam", "lambda"),
)
# The same for one method only: how its published code calls it.
OWN: dict[str, dict[str, str]] = {"dl2": {"dl2_weight": "weight"}}

Options = dict[str, dict[str, str]]


def given_options(methods: Sequence[str], additional: Iterable[str], assignments: Iterable[str]) -> Options:
    """Maps method -> option -> value as text; `--set` counts last. UsageError for an option that
    no method of the run has, listing theirs.

    A variant of a method gets what the method gets.
    """
    found: Options = {}
    methods = tuple(dict.fromkeys(split_variant(m)[0] for m in methods))
    for name, value in (pair for text in additional for pair in words_of(text)):
        for method, option in _meant(name, methods):
            found.setdefault(method, {})[option] = value
    for text in assignments:
        method, option, value = _assignment(text, methods)
        choose(f"option of {method}", option, [o.name for o in describe(METHODS.get(method))])
        found.setdefault(method, {})[option] = value
    return found


def words_of(text: str) -> list[tuple[str, str]]:
    """Returns `--lr 0.01 --epoch=20 --replace` as names and values; a flag's value is "true".

    UsageError for what is none of these.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--additional_param {text!r} cannot be read: {error}") from None
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not name or not (equals or word.startswith("-")):
            raise UsageError(
                f'--additional_param {text!r}: {word!r} is not an option; accepted: "--lr 0.01 --epoch 20"'
            )
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        found.append((name.replace("-", "_"), value))
    return found


def _meant(name: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    """The methods and options that a name stands for. UsageError if there is none."""
    target = next((m for m in sorted(methods, key=len, reverse=True) if name.startswith(f"{m}.")), None)
    bare = name if target is None else name.removeprefix(f"{target}.")
    looked = [target] if target else list(methods)
    found = [(m, option) for m in looked for option in _options(m, bare)]
    if not found:
        accepted = "; ".join(
            f"{m}: {', '.join(o.name for o in describe(METHODS.get(m))) or 'none'}" for m in looked
        )
        raise UsageError(
            f"--additional_param: no method of this run has an option {name!r}; accepted: {accepted}"
        )
    return found


def _options(method: str, name: str) -> list[str]:
    """The method's options of that name; in a combination those of each step that has it."""
    has = [o.name for o in describe(METHODS.get(method))]
    if name in has:
        return [name]
    steps: Mapping[str, str] = (
        {step: f"{step}_" for step in method.split("+")} if "+" in method else {method: ""}
    )
    same = next((group for group in ALIASES if name in group), (name,))
    wanted = [
        prefix + n for step, prefix in steps.items() for n in (*same, OWN.get(step, {}).get(name, name))
    ]
    return [n for n in dict.fromkeys(wanted) if n in has]


def _assignment(text: str, methods: Sequence[str]) -> tuple[str, str, str]:
    """`method.option=value`, where the method's name may itself hold a dot."""
    for method in sorted(methods, key=len, reverse=True):
        if text.startswith(f"{method}."):
            _, option, value = split_assignment("m." + text.removeprefix(f"{method}."))
            return method, option, value
    method, _, _ = split_assignment(text)
    raise UsageError(
        f"--set {text!r}: {method!r} is not a method of this run; accepted: {', '.join(methods)}"
    )
