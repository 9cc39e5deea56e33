"""Where each default comes from: a publication, a stated budget, or validation; never a score on test."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from airepair.methods import METHODS, build
from airepair.options import Option, describe
from airepair.settings import choose_options
from airepair.subjects.recipes import DIGITS

OPTIONS = [(name, option) for name in METHODS.names() for option in describe(METHODS.get(name))]


@pytest.mark.parametrize(("method", "option"), OPTIONS, ids=[f"{m}.{o.name}" for m, o in OPTIONS])
def test_every_default_names_a_source_that_a_reader_can_find(method: str, option: Option) -> None:
    """No option without one, none from a private page or from scores; what no publication states is
    open, and can be tuned.
    """
    assert option.source, f"{method}.{option.name} does not say where its default comes from"
    assert not re.search(r"\.md\b|protocol|seeds|\bours\b", option.source)
    if option.source == "open":
        assert option.tune is not None, f"{method}.{option.name} is open, and airepair tune cannot decide it"


def test_settings_that_replace_a_default_only_cut_what_a_cell_costs() -> None:
    """Each origin is a budget, and none sets a learning rate or a weight of a loss; or a tuning on
    validation, of open options alone.
    """
    table = tomllib.loads(files("airepair").joinpath("settings.toml").read_text())
    for row in table["setting"]:
        if row["origin"].startswith("airepair tune --open on validation: "):
            sources = {option.name: option.source for option in describe(METHODS.get(row["method"]))}
            assert {sources[name] for name in row["options"]} == {"open"}, row
            continue
        assert re.search(r"\bbudget\b", row["origin"]), row
        assert (
            not {"lr", "rate", "weight", "alpha", "gamma", "strategy", "ratio", "weight_decay"}
            & row["options"].keys()
        ), row


@pytest.mark.parametrize("method", ["aprnn", "minimal", "prdnn"])
@pytest.mark.parametrize("model", ["fc", "cnn"])
def test_on_digits_the_load_of_the_machine_decides_no_result(method: str, model: str) -> None:
    """The solver's limit is one of size: under a limit of seconds a busy machine would leave out
    layers that an idle one repairs.
    """
    options = choose_options("digits", model, method, "smoke", {}).options
    assert options["seconds"] >= 3600
    assert getattr(build(method, options), "entries", 0) <= 50_000_000


def test_dl2_trains_on_digits_as_long_as_the_subject_did() -> None:
    """The setting's origin says so."""
    assert choose_options("digits", "cnn", "dl2", "smoke", {}).options == {"epochs": DIGITS.recipe.epochs}
