"""How long cells are expected to take, and how that is said; the stage that turns an error into one line."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airepair.case import Case
from airepair.methods import METHODS
from airepair.records import read
from airepair.settings import profile, profiles
from airepair.subjects.user_model.input_spec import ModelSource
from airepair.suite import estimate as module
from airepair.suite.durations import FILE, column_key, means, store, stored, training_key
from airepair.suite.estimate import Rough, estimate, spoken
from airepair.suite.session import SELECTION
from fixtures import expectation
from fixtures.filing import stage

WIDE, NARROW = Case("cifar100", "resnet18", "dl2", 0), Case("cifar100", "resnet18w16", "dl2", 0)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """As much of pytest's configuration as the estimate asks for; results in a folder of their own."""
    given = SimpleNamespace(airepair_out=str(tmp_path / "out"), airepair_profile=None, numprocesses=None)
    stash = {SELECTION: SimpleNamespace(profile=profile("cpu"), models=(), brought={})}
    return SimpleNamespace(getoption=lambda name: getattr(given, name), option=given, stash=stash)


def test_a_cell_takes_what_it_took_else_what_its_column_took_else_what_the_model_says(
    config: Any, tmp_path: Path
) -> None:
    """Three seeds: the first has run into this folder, the second knows the column's mean, another
    method is modelled.
    """
    cases = {
        str(c): c
        for c in (
            Case("mnist", "fc", "dl2", 0),
            Case("mnist", "fc", "dl2", 1),
            Case("mnist", "fc", "memit", 0),
        )
    }
    store(tmp_path / "out", {"mnist-fc-dl2-s0": 7.0})
    store(
        tmp_path / "cache",
        {
            column_key(cases["mnist-fc-dl2-s0"], "cpu"): 8.0,
            training_key(cases["mnist-fc-dl2-s0"], "cpu"): 60.0,
        },
    )
    found = estimate(config, cases, tmp_path / "cache")
    assert found.seconds == {
        "mnist-fc-dl2-s0": 7.0,
        "mnist-fc-dl2-s1": 8.0,
        "mnist-fc-memit-s0": profile("cpu").seconds["mnist"] * profile("cpu").times["memit"],
    }
    assert (found.modelled, found.unknown) == ({"mnist-fc-memit-s0"}, set())
    assert found.training == 120.0
    (tmp_path / "cache" / "mnist-fc-s0-0123.safetensors").write_bytes(b"")
    assert estimate(config, cases, tmp_path / "cache").training == 60.0, (
        "a subject in the cache is not trained again"
    )


def test_a_wide_network_takes_as_much_longer_as_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a network that the user names is measured: on a CPU no other one for a GPU runs. One that
    cannot be measured is unknown, and so is a data set without an average.
    """
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "_slower", lambda *place: asked.append(place) or 8.0)
    rough, chosen = Rough(("resnet18",)), profile("cpu")
    assert Rough(()).seconds(WIDE, chosen) is None
    assert asked == []
    average = 35.0 * chosen.times["dl2"]
    assert [rough.seconds(c, chosen) for c in (NARROW, WIDE)] == [average, 8 * average]
    assert asked == [("cifar100", "resnet18")]
    monkeypatch.setattr(module, "_slower", lambda *place: None)
    assert rough.seconds(WIDE, chosen) is None
    assert rough.seconds(NARROW, profile("paper")) is None


def test_a_brought_network_is_measured_on_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the profile's average is of small networks like those that are brought."""
    source, asked = ModelSource(Path("wide.pt")), []
    monkeypatch.setattr(module, "_slower", lambda *place: asked.append(place) or 8.0)
    rough, chosen = Rough((), {"wide": source}), profile("cifar-cpu")
    average = 300.0 * chosen.times["dl2"]
    assert rough.seconds(Case("cifar100", "wide", "dl2", 0), chosen) == 8 * average
    assert rough.seconds(NARROW, chosen) == average
    assert rough.seconds(Case("mnist", "wide", "mine", 0), profile("cpu")) == 11.0
    assert asked == [("cifar100", "wide", pickle.dumps(source))]


def test_a_method_takes_its_own_part_of_the_average() -> None:
    """An ablation takes what its method takes, a combination the sum of its steps, and a method that
    no profile knows one average. Only methods that exist have an entry.
    """
    rough, chosen = Rough(()), profile("cifar-cpu")
    apricot, dl2 = (300.0 * chosen.times[name] for name in ("apricot", "dl2"))
    names = ["apricot", "apricot[random_sets]", "apricot+dl2", "mine", "apricot+mine"]
    cells = [Case("cifar10", "resnet18w16", name, 0) for name in names]
    assert [rough.seconds(c, chosen) for c in cells] == [
        apricot,
        apricot,
        apricot + dl2,
        300.0,
        apricot + 300.0,
    ]
    assert not {name for p in profiles() for name in profile(p).times} - set(METHODS.builtin)


def test_a_brought_network_that_cannot_be_opened_is_unknown(tmp_path: Path) -> None:
    """The measurement fails in a process of its own; the time is unknown, not wrong."""
    assert module._slower("cifar100", "lost", pickle.dumps(ModelSource(tmp_path / "lost.pt"))) is None


@pytest.mark.slow
def test_the_measurement_finds_the_wide_network_slower() -> None:
    """ResNet-18 has sixteen times the multiplications of the one with a quarter of its channels."""
    slower = module._slower("cifar100", "resnet18")
    assert slower is not None
    assert 3 < slower < 40


def test_durations_add_up_over_runs_and_survive_damage(tmp_path: Path) -> None:
    """A file that is no dictionary of numbers is as good as none."""
    store(tmp_path, {"a": 1.0})
    store(tmp_path, {"b": 2.0, "a": 3.0})
    assert stored(tmp_path) == {"a": 3.0, "b": 2.0}
    for text in ("[1]", "{", json.dumps({"a": []})):
        (tmp_path / FILE).write_text(text)
        assert stored(tmp_path) == {}
    assert means([("a", 1.0), ("a", 2.0), ("b", 4.0)]) == {"a": 1.5, "b": 4.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (20, "a minute or less"),
        (150, "about 2 minutes"),
        (2400, "about 40 minutes"),
        (9000, "about 2.5 hours"),
    ],
)
def test_minutes_and_hours(seconds: float, words: str) -> None:
    """A long run is said in hours."""
    assert spoken(seconds) == words


def test_it_says_where_the_time_comes_from_and_what_it_does_not_know(config: Any, tmp_path: Path) -> None:
    """All from earlier runs, some modelled, none known, some unknown."""
    one, two = Case("mnist", "fc", "dl2", 0), Case("mnist", "fc", "memit", 0)
    store(tmp_path / "cache", {column_key(one, "cpu"): 600.0})
    cache = tmp_path / "cache"
    say = lambda cases: expectation._time(config, cases, estimate(config, cases, cache))  # noqa: E731
    unknown = Case("mine", "fc", "memit", 0)
    assert say({"1": one}) == "about 10 minutes (by earlier runs)"
    assert say({"1": one, "2": two}) == "about 10 minutes (1 of them by a rough model)"
    assert say({"2": two}) == "a minute or less (by a rough model, since none has run here)"
    assert (
        say({"1": one, "3": unknown}) == "about 10 minutes (by earlier runs), and 1 cells of unknown length"
    )
    assert say({"3": unknown}).startswith("the time is unknown until")


def test_an_error_of_the_harness_is_one_line_and_the_place_of_its_log(tmp_path: Path) -> None:
    """The traceback is in the log, and the cell has a record."""
    item: Any = SimpleNamespace(
        config=SimpleNamespace(getoption=lambda name: str(tmp_path)),
        user_properties=[],
        nodeid="test_repair[mnist-fc-dl2-s0]",
    )
    one_line = r"^failed: ZeroDivisionError: .*; log: cells/mnist-fc-dl2-s0/log.txt$"
    with (
        pytest.raises(pytest.fail.Exception, match=one_line) as caught,
        stage(Case("mnist", "fc", "dl2", 0), item),
    ):
        1 / 0  # noqa: B018
    assert caught.value.pytrace is False
    assert "Traceback" in (tmp_path / "cells" / "mnist-fc-dl2-s0" / "log.txt").read_text()
    assert read([tmp_path])[0][0].status == "failed"
