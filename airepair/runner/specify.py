"""From what a user asked for to the specs of cells: one rule for profiles, options and attacks,
whichever door asks. Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airepair.case import TUNED, Case
from airepair.runner.cell import CellSpec
from airepair.runner.variants import applied
from airepair.settings import Chosen, choose_options, profiles, tables, usual_profile
from airepair.subjects.user_model.input_spec import ModelSource


@dataclass(frozen=True)
class Shared:
    """What all cells of a run have in common; the fields are CellSpec's, and `profile` is the named
    one or None for the usual one.
    """

    device: str = "cpu"
    profile: str | None = None
    images: int | None = None
    seconds: float | None = None
    audit: bool = False
    pgd: bool = False
    splits: Literal["test", "validation"] = "test"
    repair: bool = True
    failing: str | None = None
    keep: str | None = None
    keep_weights: bool = False
    models: bool = False

    def profile_of(self, dataset: str) -> str:
        """Returns the profile of a data set's cells."""
        return self.profile or usual_profile(dataset, cuda=self.device.startswith("cuda"))


def chosen_options(
    case: Case, architecture: str, profile: str, given: Mapping[str, Any], dataset: str = ""
) -> Chosen:
    """Returns the options of a cell: the settings' (of METHOD[tuned] the tuned ones too), then what
    the user gave, then what the variant is about.
    """
    read = tables(case.variant == TUNED)
    chosen = choose_options(dataset or case.dataset, architecture, case.base_method, profile, given, read)
    return applied(chosen, case.base_method, case.variant)


def cell_spec(
    shared: Shared,
    case: Case,
    chosen: Chosen,
    *,
    dataset: str = "",
    brought: ModelSource | None = None,
    architecture: str = "",
) -> CellSpec:
    """Returns the spec of one cell with the options chosen for it, and the architecture that they
    were chosen for.
    """
    profile = shared.profile_of(dataset or case.dataset)
    known = profiles().get(profile)
    return CellSpec(
        case=case,
        profile=profile,
        options=dict(chosen.options),
        origins=dict(chosen.origins),
        dataset="" if dataset == case.dataset else dataset,
        device=shared.device,
        images=shared.images,
        seconds=shared.seconds,
        audit=shared.audit,
        pgd=shared.pgd or bool(known and known.pgd),
        splits=shared.splits,
        repair=shared.repair,
        brought=brought,
        failing=shared.failing,
        keep=shared.keep,
        keep_weights=shared.keep_weights,
        models=shared.models,
        architecture="" if architecture == case.model else architecture,
    )
