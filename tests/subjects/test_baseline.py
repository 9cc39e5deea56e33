"""Baselines: trained once, cached by content, and the fault that the digits subjects carry."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from airepair import BENCHMARK_VERSION, data
from airepair.case import Case
from airepair.errors import NotTrained
from airepair.evaluation.exam import most_confused, sit
from airepair.host.tensor_cache import digest_of_module as digest
from airepair.methods import build as build_method
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loader
from airepair.subjects import baseline
from airepair.subjects.baseline import key_of, trained
from airepair.subjects.grid import OWN_PAIR, _pair_of, load, spoil
from airepair.subjects.recipes import Training, training_of
from airepair.testing.cells import prepare
from airepair.types import Dataset, Recipe
from tests.read_sources import forget_sources

SHORT = Training(Recipe(epochs=4, lr=0.05, early=0.25), "test", "mislabelled", (("severity", 0.4),))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return spoil(data.load("digits"), SHORT, 0)


def test_the_second_time_it_comes_from_the_cache(digits: Dataset, tmp_path: Path, runs: list[int]) -> None:
    """Same weights, same early checkpoint, one training."""
    first = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    second = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    assert runs == [1]
    assert digest(first.module) == digest(second.module)
    assert digest(first.checkpoints["early"]) == digest(second.checkpoints["early"]) != digest(first.module)
    assert not first.module.training
    assert not first.checkpoints["early"].training


def test_a_damaged_cache_is_made_anew(digits: Dataset, tmp_path: Path, runs: list[int]) -> None:
    """A truncated file is no obstacle, and no leftovers stay."""
    first = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:200])
    assert digest(trained("digits-fc", digits, "fc", SHORT, 0, tmp_path).module) == digest(first.module)
    assert runs == [1, 1]
    assert not list(tmp_path.glob("*.part"))


def test_parallel_workers_train_once(digits: Dataset, tmp_path: Path, runs: list[int]) -> None:
    """Two threads want one baseline: the second waits for the first."""
    threads = [
        threading.Thread(target=trained, args=("digits-fc", digits, "fc", SHORT, 0, tmp_path))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == [1]


def test_the_key_covers_what_the_weights_depend_on(digits: Dataset) -> None:
    """Data, fault, recipe, seed and the accuracy to stop at each give another key."""
    from airepair.models import build

    module = build("fc", "digits", 10, (1, 8, 8))
    keys = [
        key_of(module, digits, SHORT, 0),
        key_of(module, digits, SHORT, 1),
        key_of(module, data.load("digits"), SHORT, 0),
        key_of(module, digits, replace(SHORT, recipe=replace(SHORT.recipe, lr=0.04)), 0),
        key_of(module, digits, replace(SHORT, fault_options=()), 0),
        key_of(module, digits, replace(SHORT, until=0.5), 0),
        key_of(build("cnn", "digits", 10, (1, 8, 8)), digits, SHORT, 0),
    ]
    assert len({str(k) for k in keys}) == len(keys)
    assert {"threads", "torch", "device", "benchmark_version"} <= keys[0].keys()


NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


def test_the_key_covers_the_code_of_the_networks_own_classes(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """forward() is no part of a network's text; a comment changes nothing, and torch's layers alone
    need no such fact.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for text in (NET, NET.replace("class", "# explained\nclass"), NET.replace("(1)", "(1).relu()")):
        (tmp_path / "own_network.py").write_text(text)
        forget_sources()
        space: dict[str, Any] = {"__name__": "own_network"}
        exec(text, space)
        keys.append(key_of(space["Net"](), digits, SHORT, 0))
    assert keys[0] == keys[1] != keys[2]
    assert keys[0]["architecture"] == keys[2]["architecture"]
    assert "code" not in key_of(torch.nn.Sequential(torch.nn.Linear(64, 10)), digits, SHORT, 0)


def test_a_large_training_goes_on_after_a_kill(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state lies beside the cache until the training is done; the early checkpoint survives too."""
    whole = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path / "whole")
    monkeypatch.setattr(baseline, "LONG", 0.0)

    def kill(phase: str, step: int, steps: int, loss: float) -> None:
        if step * 2 == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("digits-fc", digits, "fc", SHORT, 0, tmp_path / "cut", kill)
    assert not list((tmp_path / "cut").glob("*.safetensors"))
    resumed = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path / "cut")
    assert digest(resumed.module) == digest(whole.module)
    assert digest(resumed.checkpoints["early"]) == digest(whole.checkpoints["early"])
    assert not [p for p in (tmp_path / "cut").iterdir() if p.is_dir()]


def test_it_stops_at_the_accuracy_wanted(digits: Dataset, tmp_path: Path) -> None:
    """An undertrained subject: at least that accuracy on validation, fewer epochs, an early
    checkpoint all the same.
    """
    epochs: list[float] = []
    training = replace(SHORT, recipe=replace(SHORT.recipe, epochs=40), until=0.3)
    subject = trained(
        "digits-fc",
        digits,
        "fc",
        training,
        0,
        tmp_path,
        lambda phase, step, steps, loss: epochs.append(step / steps),
    )
    assert sit(subject.module, digits.validation).accuracy >= 0.3
    assert max(epochs) < 1
    assert subject.origin["until"] == 0.3
    assert set(subject.checkpoints) == {"early"}


def test_the_noise_is_in_train_only_and_the_same_for_everybody() -> None:
    """About 15 % + 40 % of the pair's labels; images, repair, validation and test are untouched."""
    clean, training = data.load("digits"), training_of("digits", "cnn")
    noisy = spoil(clean, training, 0)
    assert noisy.digests["train"] == spoil(clean, training, 0).digests["train"] != clean.digests["train"]
    assert torch.equal(noisy.train.x, clean.train.x)
    for part in ("repair", "validation", "test"):
        assert noisy.digests[part] == clean.digests[part]
    changed = noisy.train.y != clean.train.y
    pair = (clean.train.y == 3) | (clean.train.y == 8)
    assert 0.10 < float(changed[~pair].float().mean()) < 0.20
    swapped = noisy.train.y[pair] + clean.train.y[pair] == 11
    assert 0.30 < float(swapped.float().mean()) < 0.50


def test_the_noise_follows_the_seed_on_the_same_images() -> None:
    """Two seeds, one clean training set: other labels are wrong."""
    clean, training = data.load("digits"), training_of("digits", "cnn")
    assert spoil(clean, training, 1).digests["train"] != spoil(clean, training, 2).digests["train"]


def test_a_seed_draws_its_own_splits_and_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The subject of seed 2 is trained on the train split of seed 2 with its noise, and says so; so
    does its key in the cache.
    """
    monkeypatch.setattr("airepair.subjects.grid.training_of", lambda d, m: SHORT)
    subject = load("digits", "fc", 2, profile="smoke", device=torch.device("cpu"), cache=tmp_path)
    expected = spoil(data.load("digits", seed=2), SHORT, 2)
    assert subject.dataset.digests == expected.digests
    assert (subject.trained_on, subject.dataset.seed) == ("split of seed 2", 2)
    (key,) = (json.loads(f.read_text()) for f in tmp_path.glob("digits-fc-s2-*.json"))
    assert (key["train"], key["benchmark_version"]) == (expected.digests["train"], BENCHMARK_VERSION)


def test_the_class_pair_belongs_to_the_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only seed 3 is asked for: its pair is the one that seed 0's subject confuses most on seed 0's
    validation, in the record too.
    """
    monkeypatch.setattr("airepair.subjects.grid.training_of", lambda d, m: SHORT)
    third, first = (
        load("digits", "fc", seed, profile="smoke", device=torch.device("cpu"), cache=tmp_path)
        for seed in (3, 0)
    )
    chosen = most_confused(sit(first.module, first.dataset.validation), 10)
    assert third.pair == chosen
    assert first.pair is None
    moved = replace(third, pair=(4, 7))
    for subject, seed, pair in (
        (first, 0, chosen),
        (third, 3, chosen),
        (moved, 3, (4, 7)),
        (replace(third, pair=()), 3, None),
    ):
        ready = prepare(Case("digits", "fc", "noop", seed), subject, build_method("noop", {}))
        assert ready.before.pair == pair
    assert "no two classes" in ready.missing["confusion"].lower()


def test_the_class_pair_costs_no_training_that_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With seed 3 alone in the cache and nothing to be trained (`--all`), the pair is that seed's
    own and a note says so; seed 0 is not trained.
    """
    monkeypatch.setattr("airepair.subjects.grid.training_of", lambda d, m: replace(SHORT, origin="refused"))
    place = {"profile": "smoke", "device": torch.device("cpu"), "cache": tmp_path}
    load("digits", "fc", 3, **place)
    for file in tmp_path.glob("digits-fc-s0-*"):
        file.unlink()
    _pair_of.cache_clear()

    def refuse(phase: str, step: int, steps: int, loss: float) -> None:
        raise NotTrained("refused")

    subject = load("digits", "fc", 3, progress=refuse, **place)
    assert subject.pair is None
    assert OWN_PAIR in subject.dataset.notes
    assert not list(tmp_path.glob("digits-fc-s0-*.safetensors"))
    assert load("digits", "fc", 3, **place).pair is not None


def test_a_question_that_trains_nothing_leaves_the_cell_the_pair_of_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--resume asks for the weights of seed 3, with seed 0 not in the cache; the cell that then runs
    trains seed 0, in the same process.
    """
    monkeypatch.setattr("airepair.subjects.grid.training_of", lambda d, m: replace(SHORT, origin="asked"))
    _pair_of.cache_clear()
    spec = CellSpec(Case("digits", "fc", "noop", 3), "smoke")
    Loader(tmp_path)(spec)
    for file in tmp_path.glob("digits-fc-s0-*"):
        file.unlink()
    _pair_of.cache_clear()
    loader = Loader(tmp_path)
    asked = loader.without_training(spec)
    assert asked is not None
    assert OWN_PAIR in asked.subject.dataset.notes
    subject = loader(spec).subject
    assert OWN_PAIR not in subject.dataset.notes
    assert subject.pair is not None
    assert loader.without_training(spec) is loader(spec), "with its pair it is held"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn", "fc"])
def test_the_planted_pair_is_the_most_confused_one(model: str, tmp_path: Path) -> None:
    """On three seeds; the accuracies lie in the region where the protocol found methods to differ."""
    for seed in range(3):
        subject = load("digits", model, seed, profile="smoke", device=torch.device("cpu"), cache=tmp_path)
        pair = most_confused(sit(subject.module, subject.dataset.validation), 10)
        assert pair is not None
        assert set(pair) == {3, 8}
        assert 0.65 < sit(subject.module, subject.dataset.test).accuracy < 0.90
