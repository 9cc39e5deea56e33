"""Training baselines: the same weights however often it is interrupted, and stopped on validation."""

import argparse
import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.cli import train as command
from airepair.cli.main import performed
from airepair.errors import UsageError
from airepair.host.tensor_cache import digest_of_module as digest
from airepair.models import build
from airepair.models.names import model_name
from airepair.models.recognise import load
from airepair.subjects.recipes import PAPER, training_of
from airepair.testing import toy
from airepair.training import loop
from airepair.training.best_state import fit
from airepair.training.loop import Epoch
from airepair.training.resumable import STATE, Folder, Plan, Watcher, train
from airepair.types import Recipe

RECIPE = Recipe(lr=0.1, batch_size=32, epochs=5, augment="shift", label_smoothing=0.1)


def network() -> nn.Module:
    """With dropout, so that the global generator matters too."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)
    )


class Killed(Exception):
    pass


def test_it_is_the_one_training_loop() -> None:
    """Without dropout the weights equal those of `fit` to the last bit."""
    data, recipe = toy.dataset(), replace(RECIPE, label_smoothing=0.0)
    one, other = toy.architecture("mlp"), toy.architecture("mlp")
    other.load_state_dict(one.state_dict())
    train(one, data.train, None, Plan(recipe, 5))
    fit(other, data.train, None, recipe, torch.Generator().manual_seed(5))
    assert digest(one) == digest(other)


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, after: int) -> None:
    """Optimiser, shuffling, augmentation and dropout are all resumed."""
    data = toy.dataset()
    whole = network()
    epochs = train(whole, data.train, data.validation, Plan(RECIPE, 1))

    def kill(epoch: Epoch) -> None:
        if epoch.number == after:
            raise Killed

    with pytest.raises(Killed):
        train(network(), data.train, data.validation, Plan(RECIPE, 1), Folder(tmp_path), Watcher(epoch=kill))
    torch.rand(7)  # the global generator is elsewhere when the next process starts
    resumed = network()
    seen: list[int] = []
    history = train(
        resumed,
        data.train,
        data.validation,
        Plan(RECIPE, 1),
        Folder(tmp_path),
        Watcher(epoch=lambda e: seen.append(e.number)),
    )
    assert seen == list(range(after + 1, 6))
    assert history == epochs
    assert digest(resumed) == digest(whole)


def test_a_training_killed_within_an_epoch_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches that are left, the losses so far, augmentation and dropout: no image is seen
    twice or left out.
    """
    monkeypatch.setattr(
        loop.time, "monotonic", itertools.count(0, 2).__next__
    )  # every batch is a second after the last
    monkeypatch.setattr("airepair.training.resumable.MINUTE", 0.0)
    data, whole = toy.dataset(), network()
    epochs = train(whole, data.train, data.validation, Plan(RECIPE, 1))

    def kill(epoch: int, done: int, total: int, loss: float) -> None:
        if (epoch, done) == (2, 96):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            network(),
            data.train,
            data.validation,
            Plan(RECIPE, 1),
            Folder(tmp_path, 1e9),
            Watcher(inside=kill),
        )
    torch.rand(7)
    resumed, seen = network(), []
    history = train(
        resumed,
        data.train,
        data.validation,
        Plan(RECIPE, 1),
        Folder(tmp_path),
        Watcher(inside=lambda *at: seen.append(at[:2])),
    )
    assert seen[0] == (2, 96)
    assert history == epochs
    assert digest(resumed) == digest(whole)


def test_the_global_generator_is_left_alone() -> None:
    """Training neither reads nor moves the caller's random state."""
    module = network()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(module, toy.dataset().train, None, Plan(replace(RECIPE, epochs=1), 1))
    assert torch.equal(torch.rand(3), expected)


def test_another_plan_or_a_damaged_state_is_refused(tmp_path: Path) -> None:
    """A folder holds one training; the line says what to delete."""
    data = toy.dataset()
    train(network(), data.train, None, Plan(RECIPE, 1), Folder(tmp_path))
    with pytest.raises(UsageError, match="belongs to a training with other settings"):
        train(network(), data.train, None, Plan(replace(RECIPE, lr=0.2), 1), Folder(tmp_path))
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-50])
    with pytest.raises(UsageError, match="is damaged"):
        train(network(), data.train, None, Plan(RECIPE, 1), Folder(tmp_path))


def test_until_stops_at_the_first_epoch_that_reaches_it() -> None:
    """Watched on validation; an unreachable accuracy costs all epochs."""
    data = toy.dataset()
    recipe = replace(toy.RECIPE, epochs=12)
    full = train(toy.architecture("mlp"), data.train, data.validation, Plan(recipe, 0))
    wanted = sorted(e.accuracy for e in full if e.accuracy is not None)[6]
    torch.manual_seed(0)
    start = toy.architecture("mlp")
    full = train(copy.deepcopy(start), data.train, data.validation, Plan(recipe, 0))
    first = next(e.number for e in full if (e.accuracy or 0) >= wanted)
    stopped = train(copy.deepcopy(start), data.train, data.validation, Plan(recipe, 0, until=wanted))
    assert stopped == full[:first]
    assert len(train(copy.deepcopy(start), data.train, data.validation, Plan(recipe, 0, until=1.01))) == 12
    assert (
        len(train(copy.deepcopy(start), data.train, data.validation, Plan(recipe, 0, until=1.01, most=5)))
        == 5
    )


def test_the_papers_names() -> None:
    """resnet and a depth; mnist and fmnist; the registry's names; one line for the rest."""
    assert model_name("resnet", 34) == "resnet34"
    assert model_name("resnet", 18, 16) == "resnet18w16"
    assert model_name("mnist") == model_name("fmnist") == "cnn"
    assert model_name("resnet18w16") == "resnet18w16"
    assert model_name("resnet20", 20) == "resnet20"
    for words in (("resnet", 19), ("vgg",), ("mnist", 18), ("fc", None, 4), ("resnet18wx",)):
        with pytest.raises(UsageError, match=r"accepted: |has one width"):
            model_name(*words)  # type: ignore[arg-type]


def test_undertrained_subjects_stop_at_the_papers_baseline() -> None:
    """CIFAR-100 only, at Table I's accuracies; any other is refused."""
    assert training_of("cifar100", "resnet34_undertrained").until == PAPER["cifar100", "resnet34"] == 0.4416
    assert training_of("cifar100", "resnet34").until is None
    assert training_of("cifar100", "resnet18w16_undertrained").until == 0.4684
    assert training_of("cifar100", "resnet18w16_undertrained").most is None
    assert (
        training_of("cifar10", "resnet18w16_undertrained").most
        == training_of("cifar10", "resnet18w16").recipe.epochs // 2
    )
    assert training_of("cifar10", "resnet18_undertrained").most is None
    with pytest.raises(UsageError, match="cifar100-resnet18_undertrained"):
        training_of("mnist", "cnn_undertrained")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["--dataset", "digits", "--net_arch", "fc", *words])


def test_the_command_leaves_a_model_that_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """model.pt says what it is, loads weights-only, and the recogniser builds it; early and
    asked-for states stand beside it.
    """
    assert (
        performed(command, arguments("--epochs", "4", "--keep-epochs", "3", "--out", str(tmp_path / "m")))
        == 0
    )
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "early.pt",
        "epoch-3.pt",
        "log.jsonl",
        "model.pt",
    ]
    found = torch.load(tmp_path / "m" / "model.pt", weights_only=True)
    assert (found["arch"], found["classes"], found["trained_on"], found["epochs"]) == (
        "fc",
        10,
        "split of seed 0",
        4,
    )
    module = load(found)
    assert digest(module) == digest(load(found["state_dict"], "digits/fc", (1, 8, 8)))
    logged = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").read_text().splitlines()]
    assert [e["number"] for e in logged] == [1, 2, 3, 4]
    assert f"validation {logged[-1]['accuracy']:.4f}" in capsys.readouterr().out


def test_an_early_state_is_there_also_where_training_stops_before_its_epoch(tmp_path: Path) -> None:
    """Sixty epochs have their early one after three; stopped after two, the first stands in, never
    the last itself.
    """
    assert performed(command, arguments("--until-accuracy", "0.8", "--out", str(tmp_path / "m"))) == 0
    model, early = (torch.load(tmp_path / "m" / name, weights_only=True) for name in ("model.pt", "early.pt"))
    assert (early["epochs"], model["epochs"]) == (1, 2)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["early.pt", "log.jsonl", "model.pt"]


def test_a_finished_model_is_neither_trained_again_nor_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command says what is there; another one into the same folder is refused, and the
    file stays as it is.
    """
    out = ("--out", str(tmp_path / "m"))
    assert performed(command, arguments("--epochs", "2", *out)) == 0
    before = (tmp_path / "m" / "model.pt").read_bytes()
    assert "recipe of docs/protocol.md, digits; given: epochs 2" in capsys.readouterr().out
    assert performed(command, arguments("--epochs", "2", *out)) == 0
    shown = capsys.readouterr().out
    assert "trained already: validation" in shown
    assert "epoch 1/" not in shown
    for words in (
        ("--epochs", "3"),
        ("--epochs", "2", "--seed", "1"),
        ("--epochs", "2", "--until-accuracy", "0.5"),
        ("--epochs", "2", "--clean"),
    ):
        with pytest.raises(UsageError, match="belongs to another training; accepted: another --out"):
            performed(command, arguments(*words, *out))
    assert (tmp_path / "m" / "model.pt").read_bytes() == before


def test_the_command_says_when_an_accuracy_was_not_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the model kept."""
    assert (
        performed(command, arguments("--epochs", "1", "--until-accuracy", "1", "--out", str(tmp_path / "m")))
        == 1
    )
    assert "did not reach 1.0" in capsys.readouterr().err
    assert (tmp_path / "m" / "model.pt").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--epochs", "0"),
        ("--lr", "-1"),
        ("--lr", "nan"),
        ("--until-accuracy", "46.84"),
        ("--seed", "-1"),
        ("--keep-epochs", "x"),
        ("--device", "abacus"),
    ],
)
def test_a_value_out_of_range_is_one_line(words: tuple[str, str], tmp_path: Path) -> None:
    """The value and what would be accepted, before anything is trained."""
    with pytest.raises(UsageError, match="accepted") as caught:
        performed(command, arguments(*words, "--out", str(tmp_path / "m")))
    assert words[1] in str(caught.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle; the same command ends with the weights of an undisturbed run."""
    words = ["--dataset", "digits", "--net_arch", "fc", "--epochs", "60"]
    start = [sys.executable, "-m", "airepair", "train", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*start, "--out", str(tmp_path / "a")], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert not (tmp_path / "a" / "model.pt").exists()
    again = subprocess.run(
        [*start, "--out", str(tmp_path / "a")], env=environment, capture_output=True, text=True
    )
    whole = subprocess.run(
        [*start, "--out", str(tmp_path / "b")], env=environment, capture_output=True, text=True
    )
    assert "epoch 1/" not in again.stdout
    assert "epoch 1/" in whole.stdout
    states = [torch.load(tmp_path / n / "model.pt", weights_only=True)["state_dict"] for n in "ab"]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_build_is_seeded_by_the_caller() -> None:
    """The same seed gives the same start, so that a resumed run and a fresh one agree."""
    digests = []
    for _ in range(2):
        torch.manual_seed(4)
        digests.append(digest(build("cnn", "digits", 10, (1, 8, 8))))
    assert digests[0] == digests[1]
