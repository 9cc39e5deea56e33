"""Model files in the grid: `pytest benchmarks --pretrained FILE --dataset NAME`, as a user runs it."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fixtures.repair
import fixtures.subject
from airepair.case import Case
from airepair.cli.repair.targets import Target
from airepair.data import load
from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.methods import build as method
from airepair.models import build
from airepair.records import read
from airepair.subjects.user_model.input_spec import ModelSource, shipped, stated
from airepair.subjects.user_model.load import bring
from airepair.suite.session import SELECTION
from airepair.testing.cells import prepare, run
from fixtures.repair import spec_of
from tests.suite.test_suite import suite, suites


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits network that wants pixels in 0..255."""
    train = load("digits").train
    net = build("fc", "digits", 10, (1, 8, 8))
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(net(train.images() * 255), train.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("brought") / "My-net.pt"
    torch.save(net.eval().state_dict(), path)
    return path


def cells(text: str) -> set[str]:
    """The ids in a listing."""
    return set(re.findall(r"test_repair\[(.+)\]", text))


def test_a_file_adds_its_cells_and_only_these_are_selected(tmp_path: Path, file: Path) -> None:
    """Every method times the seeds under the file's name; a name of the grid in --model brings the
    others back.
    """
    words = ["--collect-only", "-q", "--pretrained", str(file), "--dataset", "mnist"]
    alone, both = suites(tmp_path, [words, [*words, "--model", "my_net,cnn", "--method", "noop"]])
    found = cells(alone.stdout)
    assert {"mnist-my_net-noop-s0", "mnist-my_net-apricot-s2"} <= found
    assert {"-".join(c.split("-")[:2]) for c in found} == {"mnist-my_net"}
    assert {"-".join(c.split("-")[:2]) for c in cells(both.stdout)} == {"mnist-my_net", "mnist-cnn"}


def test_a_cell_of_a_file_knows_the_architecture_that_its_options_are_for(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Its control asks the tables of settings for the same rows as the cells beside it."""
    brought = {"my_net": ModelSource(file, net_arch="fc")}
    config: Any = SimpleNamespace(stash={SELECTION: SimpleNamespace(brought=brought)})
    monkeypatch.setattr(fixtures.repair, "option", lambda _, name: "none" if name == "keep_models" else None)
    monkeypatch.setattr(fixtures.repair, "options_of_case", lambda *_: {})
    assert spec_of(config, Case("digits", "my_net", "finetune", 0), "cpu").settings_model == "fc"
    assert spec_of(config, Case("digits", "cnn", "finetune", 0), "cpu").architecture == ""


@pytest.mark.slow
def test_the_cells_of_a_file_run_fed_as_it_wants(tmp_path: Path, file: Path) -> None:
    """With the range as an option they run; the record says where it came from, and that the
    baseline is one file for all seeds.
    """
    words = ["--pretrained", str(file), "--dataset", "digits", "--method", "noop,memit", "--seeds", "0,1"]
    result = suite(tmp_path, *words, "--input-range", "0..255", "--trained-on", "split of seed 0")
    assert result.returncode == 0, result.stdout + result.stderr
    records = read([tmp_path / "records.jsonl"])[0]
    keys = {r.key for r in records}
    assert keys >= {f"digits-my_net-{m}-s{s}" for m in ("noop", "memit") for s in (0, 1)}
    assert {r.case.base_method for r in records} == {"noop", "memit"}, (
        "a method's ablations come with it, and nothing else"
    )
    assert {r.subject["origin"]["feeding"]["input_range"]["from"] for r in records} == {"option"}
    assert "the same weights at every seed" in re.sub(r"\s+", " ", (tmp_path / "table1.txt").read_text())
    refused = suite(tmp_path / "refused", *words)
    assert refused.returncode == 1
    assert "give --input-range 0..255" in refused.stdout
    assert "Traceback" not in refused.stdout


@pytest.mark.slow
def test_the_inputs_to_repair_may_be_the_users_own(tmp_path: Path, file: Path) -> None:
    """--failing and --keep of the file's cells; wanted labels that the model gives already fail the
    cell with one line.
    """
    digits = load("digits").test
    net = build("fc", "digits", 10, (1, 8, 8))
    net.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        said = net.eval()(digits.images() * 255).argmax(1)
    x = (digits.images()[:, 0] * 255).round().byte().numpy()
    np.savez(tmp_path / "wrong.npz", x=x[:7], y=((said + 1) % 10)[:7].numpy())
    np.savez(tmp_path / "keep.npz", x=x[7:20])
    np.savez(tmp_path / "right.npz", x=x[:7], y=said[:7].numpy())
    words = [
        "--pretrained",
        str(file),
        "--dataset",
        "digits",
        "--method",
        "lookup",
        "--seeds",
        "0",
        "--input-range",
        "0..255",
    ]
    ours = ["--failing", f"npz:{tmp_path / 'wrong.npz'}", "--keep", f"npz:{tmp_path / 'keep.npz'}"]
    result = suite(tmp_path / "out", *words, *ours)
    assert result.returncode == 0, result.stdout + result.stderr
    (record,) = read([tmp_path / "out" / "records.jsonl"])[0]
    assert record.provenance["n"]["failing"] == 7
    assert (record.after["repair_rate"], record.after["kept"]) == (1, 1)
    refused = suite(tmp_path / "refused", *words, "--failing", f"npz:{tmp_path / 'right.npz'}")
    assert refused.returncode == 1
    assert "the model already predicts 7 of 7 wanted labels" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_a_file_works_in_an_environment_that_it_was_not_trained_for(file: Path) -> None:
    """`digits+fog3` with --pretrained: it fails there, a method gets these failures and the
    corruption, clean and corrupted accuracy are recorded.
    """
    feeding = stated({"input_range": "0..255"}, "option", Path())
    brought = ModelSource(file, feeding=feeding, trained_on="split of seed 0")
    clean, _ = bring(brought, "digits", profile="smoke", device=torch.device("cpu"))
    subject, _ = bring(brought, "digits+fog3", profile="smoke", device=torch.device("cpu"))
    assert subject.name == "digits+fog3-my_net"
    assert str(subject.environment) == "fog3"
    assert torch.equal(subject.dataset.train.x, clean.dataset.train.x)
    assert Target("digits+fog3", "my_net", brought).data == "digits+fog3"
    ready = prepare(
        Case("digits+fog3", "my_net", "deeprepair_style", 0),
        subject,
        method("deeprepair_style", {"epochs": 4, "lr": 0.02}),
    )
    record = run(ready).record
    assert record.before["clean_accuracy"] == sit(clean.module, clean.dataset.test).accuracy
    assert record.before["accuracy"] < record.before["clean_accuracy"] - 0.05
    assert record.after["accuracy"] > record.before["accuracy"]
    assert "no clean twin" in record.missing["recovery"]
    assert "fault" not in record.subject
    assert any(f"{len(ready.failing)} failing inputs" in n for n in record.notes)
    with pytest.raises(UsageError, match="fgo"):
        bring(brought, "digits+fgo3", profile="smoke", device=torch.device("cpu"))


def test_a_file_that_cannot_be_meant_ends_the_run_before_it_starts(tmp_path: Path, file: Path) -> None:
    """One line, exit code 4 (pytest's usage error); inputs to repair belong to a model."""
    given = ["--pretrained", str(file)]
    refused = {
        "--pretrained needs --dataset": given,
        "mean is given without std": [*given, "--dataset", "digits", "--mean", "0.5"],
        "there is no such file": ["--dataset", "digits", "--pretrained", "nowhere/My net.h5"],
        "--failing is for the inputs of one model; accepted: with --pretrained FILE": [
            "--failing",
            "npz:a.npz",
        ],
    }
    results = suites(tmp_path, [["--collect-only", "-q", *words] for words in refused.values()])
    assert {r.returncode for r in results} == {pytest.ExitCode.USAGE_ERROR}
    assert [why for why, r in zip(refused, results, strict=True) if why not in r.stderr] == []


def test_the_shipped_keras_network_stands_in_profile_digits(tmp_path: Path) -> None:
    """One seed, all methods; and its file is small, with what feeds it beside it."""
    found = cells(suite(tmp_path, "--collect-only", "-q", "--profile", "digits").stdout)
    assert {"digits-keras_cnn-noop-s0", "digits-keras_cnn-apricot-s0"} <= found
    assert not {c for c in found if "keras_cnn" in c and not c.endswith("-s0")}
    ours = shipped("digits", "keras_cnn")
    assert ours is not None
    assert ours.path.stat().st_size < 100_000
    assert ours.path.with_suffix(".toml").exists()
    assert shipped("mnist", "keras_cnn") is None


def test_without_the_extra_its_cells_are_skipped_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The grid's own Keras file needs three packages; the reason names the one that is missing."""
    monkeypatch.setattr(fixtures.subject, "find_spec", lambda name: None if name == "mmdnn" else object())
    why = fixtures.subject.needs_extra(shipped("digits", "keras_cnn"), Case("digits", "keras_cnn", "noop", 0))
    assert (
        why
        == "digits-keras_cnn is a Keras file, and mmdnn is not installed: pip install 'airepair[keras,mmdnn]'"
    )
    assert fixtures.subject.needs_extra(None, Case("digits", "fc", "noop", 0)) == ""
