"""The earlier state of a brought network's own training, where Apricot's submodels start (docs/protocol.md).

It is named by `--early`, by `early` in the TOML file, or is the early.pt that `airepair train` left
beside the model of the same training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from airepair.errors import UsageError
from airepair.formats.detect import sniff
from airepair.formats.model_file import ModelFile
from airepair.models import checkpoint
from airepair.models.recognise import differences
from airepair.subjects.user_model.input_spec import ModelSource

SAME = (
    "arch",
    "data",
    "seed",
    "digests",
    "recipe",
    "recipe_origin",
    "fault",
    "until",
)  # facts that two files of one training share


def early_file(
    brought: ModelSource, values: Mapping[str, Any], file: str, opened: ModelFile
) -> tuple[Path, str] | None:
    """Returns the file and who says so; None if there is none. UsageError if a named one is not
    there.
    """
    folder, beside = brought.path.parent, brought.path.parent / "early.pt"
    named = (
        (brought.early, "option")
        if brought.early
        else (folder / str(values["early"]), file)
        if "early" in values
        else None
    )
    if named and not named[0].exists():
        raise UsageError(
            f"early ({named[1]}): there is no file {named[0]}; accepted: a file with an earlier state of "
            f"the same training"
        )
    if (
        named
        or not beside.is_file()
        or beside.samefile(brought.path)
        or opened.facts.get("recipe_origin") is None
    ):
        return named
    try:
        found = checkpoint.load(beside) if sniff(beside) == "torch" else None
    except UsageError:  # somebody else's: nobody named it
        return None
    same = isinstance(found, dict) and all(found.get(k) == opened.facts.get(k) for k in SAME)
    return (beside, "early.pt beside it, of the same training") if same else None


def early_state(path: Path, module: nn.Module, found: nn.Module) -> nn.Module:
    """Returns the network `found` in `path`. UsageError if it is another one than the subject's,
    `module`.
    """
    if differing := differences(module, found.state_dict()):
        raise UsageError(
            f"early {path} is a state of another network: {differing}; accepted: "
            f"an earlier state of the same training"
        )
    return found
