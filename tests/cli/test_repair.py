"""airepair repair: the paper's command line at toy size, the folder it leaves, and one line for
whatever cannot be meant.
"""

import argparse
import errno
import io
import json
import math
import os
import re
import signal
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from torch import nn

from airepair.cli.main import main
from airepair.cli.repair import arguments as command
from airepair.cli.repair import config
from airepair.cli.repair.folder import make
from airepair.cli.repair.method_options import given_options, words_of
from airepair.cli.repair.progress import Lines, Live
from airepair.cli.repair.targets import dataset_in
from airepair.errors import UsageError
from airepair.formats.detect import sniff
from airepair.formats.model_file import ModelFile
from airepair.records import Record, read
from airepair.report.cells import grid
from airepair.report.recommend import recommendations
from airepair.types import Category, Task

KEYS = ("digits-base-apricot-s0", "digits-base-finetune-s0")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's first step: a baseline, trained here."""
    folder = tmp_path_factory.mktemp("base")
    words = [
        "train",
        "--dataset",
        "digits",
        "--net_arch",
        "cnn",
        "--epochs",
        "4",
        "--lr",
        "0.05",
        "--out",
        str(folder / "out"),
    ]
    assert main(words) == 0
    (folder / "out" / "model.pt").rename(folder / "base.pt")
    return folder / "base.pt"


@pytest.fixture(scope="module")
def ran(base: Path) -> Path:
    """The paper's second step: its example command with two methods, at toy size. The folder that it left."""
    words = [
        "--method",
        "apricot",
        "finetune",
        "--pretrained",
        str(base),
        "--dataset",
        "digits",
        "--net_arch",
        "cnn",
    ]
    toy = [
        "--additional_param",
        "--submodels 3 --epoch 4",
        "--set",
        "apricot.submodel_epochs=2",
        "--out",
        str(base.parent / "run"),
    ]
    assert main(["repair", *words, *toy]) == 0
    return base.parent / "run"


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Key -> scores after, without what depends on the clock."""
    return {r.key: dict(r.after) for r in read([folder])[0]}


def test_a_run_leaves_models_configuration_log_record_and_report(ran: Path) -> None:
    """The folder of the paper's command: everything there, and nothing half written."""
    assert sorted(scores(ran)) == list(KEYS)
    for key in KEYS:
        assert (ran / "models" / f"{key}.pt").exists()
        assert (ran / "models" / key / "base.pt").exists()
        assert (ran / "cells" / key / "predictions.npz").exists()
    report = (ran / "report.md").read_text()
    assert "| digits base | before |" in report
    assert "## Which method to use" in report
    assert "digits-base-finetune-s0: accuracy" in (ran / "log.txt").read_text()
    assert tomllib.loads((ran / "config.toml").read_text())["options"]["finetune"]["epochs"] == 4
    assert not list(ran.rglob("*.part"))


def test_a_repaired_model_is_plain_values_that_say_what_it_is(ran: Path, base: Path) -> None:
    """Loads with weights_only=True; the user's own file comes back with its names, and with other weights."""
    ours = torch.load(ran / "models" / f"{KEYS[1]}.pt", weights_only=True)
    assert (ours["arch"], ours["classes"], ours["data"], ours["shape"], ours["repaired_by"]) == (
        "cnn",
        10,
        "digits",
        [1, 8, 8],
        "finetune",
    )
    before = torch.load(base, weights_only=True)["state_dict"]
    after = torch.load(ran / "models" / KEYS[1] / "base.pt", weights_only=True)["state_dict"]
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_testonly_on_the_repaired_file_gives_the_scores_of_the_record(
    ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without data set and architecture: the file says them; accuracy, constraint and confusion of
    the same pair are the record's.
    """
    assert main(["repair", "--testonly", "--pretrained", str(ran / "models" / f"{KEYS[1]}.pt")]) == 0
    shown = capsys.readouterr().out
    after = scores(ran)[KEYS[1]]
    for title, metric in (
        ("accuracy ", "accuracy"),
        ("constraint accuracy (groups)", "constraint"),
        ("confusion accuracy (a, b)", "confusion_ab"),
    ):
        line = next(row for row in shown.splitlines() if row.startswith(title))
        assert float(line.split()[-1]) == round(after[metric], 4)
    assert "true class in rows" in shown
    assert (
        main(
            [
                "repair",
                "--testonly",
                "--pretrained",
                str(ran / "models" / KEYS[1] / "base.pt"),
                "--dataset",
                "digits",
            ]
        )
        == 0
    )
    assert f"{after['accuracy']:.4f}" in capsys.readouterr().out


def test_the_configuration_gives_the_same_numbers_again(ran: Path) -> None:
    """--config alone: the same cells, options with their origins, scores and images; what is given
    beside it counts first.
    """
    again = ran.with_name("again")
    assert main(["repair", "--config", str(ran / "config.toml"), "--out", str(again)]) == 0
    assert scores(again) == scores(ran)
    old, new = (
        {r.key: (r.options, r.budget, r.subject["repaired_weights"]) for r in read([f])[0]}
        for f in (ran, again)
    )
    assert old == new
    args = command_line("--config", str(ran / "config.toml"), "--method", "noop")
    from airepair.cli.repair.config import apply

    assert apply(args, args.config)["finetune"].options["epochs"] == 4
    assert (args.method, args.seeds, args.net_arch) == (["noop"], "0", "cnn")


def test_input_logs_show_an_earlier_run(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder or its records file: before and after, the advice, Table I."""
    for place in (ran, ran / "records.jsonl"):
        assert main(["repair", "--input_logs", str(place)]) == 0
        shown = capsys.readouterr().out
        assert "Before and after" in shown
        assert "Recommendation for digits/base (validation):" in shown


def test_every_model_of_a_folder_with_every_method_named(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--all --models: each file is a subject; the time is said first; a file that cannot be read is
    left out with a line, the others run.
    """
    folder = base.parent / "models"
    folder.mkdir()
    (folder / "good.pt").write_bytes(base.read_bytes())
    (folder / "bad.pt").write_bytes(base.read_bytes()[:5000])
    out = base.parent / "all"
    assert (
        main(
            [
                "repair",
                "--all",
                "--models",
                str(folder),
                "--dataset",
                "digits",
                "--method",
                "noop",
                "lookup",
                "--out",
                str(out),
            ]
        )
        == 1
    ), "a file was left out"
    shown = capsys.readouterr().err
    assert "2 models x 2 methods, 4 repairs; time: unknown" in shown
    assert "left out: digits-bad" in shown
    assert sorted(scores(out)) == ["digits-good-lookup-s0", "digits-good-noop-s0"]
    report = (out / "report.md").read_text()
    assert (
        "changed the architecture" in report
    )  # lookup puts a table in front: the user's format cannot hold it
    assert not (out / "models" / "digits-good-lookup-s0").exists()


@dataclass(frozen=True)
class Attached:
    """A method of somebody else's that attaches a unit: it scales the logits of class 0."""

    name: ClassVar[str] = "attached"
    category: ClassVar[Category] = "architecture extension"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        unit = nn.Linear(10, 10)
        with torch.no_grad():
            unit.weight.copy_(torch.diag(torch.tensor([1.5] + [1.0] * 9)))
            unit.bias.zero_()
        return nn.Sequential(task.module, unit)


def test_a_model_repaired_at_another_seed_is_tested_on_the_images_of_that_seed(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed 2 has divided the unseen images otherwise: what it wrote, in both files, is never tested
    on what it has learned from.
    """
    out, key = base.parent / "other", "digits-base-finetune-s2"
    words = [
        "--pretrained",
        str(base),
        "--dataset",
        "digits",
        "--method",
        "finetune",
        "--additional_param",
        "--epochs 2",
    ]
    assert main(["repair", *words, "--seeds", "2", "--out", str(out)]) == 0
    expected = f"{scores(out)[key]['accuracy']:.4f}"
    for file in (f"{key}.pt", f"{key}/base.pt"):
        capsys.readouterr()
        assert (
            main(["repair", "--testonly", "--pretrained", str(out / "models" / file), "--dataset", "digits"])
            == 0
        )
        assert expected in capsys.readouterr().out


def test_an_attached_unit_comes_back_as_a_program(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """package.module:Class is a method too; what the state dict and the user's format cannot tell
    is there as TorchScript, same scores.
    """
    out, key = base.parent / "attached", f"digits-base-{__name__}:Attached-s0"
    words = ["--pretrained", str(base), "--dataset", "digits", "--method", f"{__name__}:Attached"]
    assert main(["repair", *words, "--out", str(out)]) == 0
    assert (out / "models" / f"{key}.pt").exists()
    assert "not written as torch: the repair changed the architecture" in (
        out / "report.md"
    ).read_text().replace("\\", "")
    assert "changed the architecture" in read([out])[0][0].subject["written_back"]["reason"]
    capsys.readouterr()
    program = out / "models" / f"{key}.torchscript.pt"
    assert (
        main(["repair", "--testonly", "--pretrained", str(program), "--dataset", "digits", "--trust-pickle"])
        == 0
    )
    assert f"{scores(out)[key]['accuracy']:.4f}" in capsys.readouterr().out


def test_a_file_that_unpacks_to_too_much_is_not_loaded_for_its_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data set is asked before the file is opened as a model."""
    torch.save({"data": "digits", "w": torch.zeros(100_000)}, tmp_path / "big.pt")
    assert dataset_in(tmp_path / "big.pt") == "digits"
    monkeypatch.setattr(sniff, "__defaults__", (10_000,))
    assert dataset_in(tmp_path / "big.pt") is None
    assert dataset_in(tmp_path / "absent.pt") is None


@dataclass(frozen=True)
class Tidying(Attached):
    """A method during which the user moves the file away."""

    name: ClassVar[str] = "tidying"

    def repair(self, task: Task) -> nn.Module:
        Path(os.environ["MOVED"]).rename(os.environ["MOVED"] + ".old")
        with torch.no_grad():
            next(task.module.parameters()).mul_(1.01)
        return task.module


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_repair_outlives_the_file_that_it_began_with(
    base: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The record and the .pt are there; the record states why the user's own file is not."""
    moved, out = base.parent / f"moved{suffix}", base.parent / f"from-moved{suffix}"
    if suffix == ".onnx":
        pytest.importorskip("onnx")
        assert main(["convert", str(base), str(moved)]) == 0
    else:
        moved.write_bytes(base.read_bytes())
    monkeypatch.setenv("MOVED", str(moved))
    words = ["--dataset", "digits", "--method", f"{__name__}:Tidying", "--trained-on", "split of seed 0"]
    assert main(["repair", "--pretrained", str(moved), *words, "--out", str(out)]) == 0
    (record,), _ = read([out])
    assert record.status == "repaired"
    assert (out / "models" / f"{record.key}.pt").exists()
    assert not (out / "models" / record.key).exists()
    assert "No such file or directory" in record.subject["written_back"]["reason"]


def test_a_full_disk_is_no_reason_of_the_format(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then other files are lost too, and the run ends with that line."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ModelFile, "write", full)
    words = ["--pretrained", str(base), "--dataset", "digits", "--method", "noop"]
    assert main(["repair", *words, "--out", str(base.parent / "full")]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_the_record_says_how_faithfully_a_file_was_converted_and_written_back(base: Path) -> None:
    """A TorchScript file through MMdnn: both fidelities stand in the one record that its cell has,
    and the file that it names is there.
    """
    pytest.importorskip("mmdnn")
    program, out = base.parent / "program.pt", base.parent / "converted"
    assert main(["convert", str(base), str(program)]) == 0
    words = [
        "--pretrained",
        str(program),
        "--trust-pickle",
        "--dataset",
        "digits",
        "--trained-on",
        "split of seed 0",
        "--method",
        "finetune",
    ]
    assert main(["repair", *words, "--additional_param", "--epochs 1", "--out", str(out)]) == 0
    (record,), remarks = read([out])
    assert remarks == []
    for found in (record.subject["origin"]["fidelity"], record.subject["written_back"]["fidelity"]):
        assert found["agreement"] == 1
        assert found["difference"] <= found["limit"]
        assert found["n"] == 512
    assert (out / record.subject["written_back"]["file"]).exists()


def test_the_report_lists_what_stays_in_the_file_though_the_repair_makes_it_untrue(base: Path) -> None:
    """Figures of the old weights and the optimizer, once, whatever the number of cells."""
    old, out = base.parent / "figures.pt", base.parent / "from-figures"
    torch.save(torch.load(base, weights_only=True) | {"best_prec1": 93.1, "optimizer": {"lr": 0.1}}, old)
    words = ["--pretrained", str(old), "--dataset", "digits", "--method", "noop", "lookup"]
    assert main(["repair", *words, "--out", str(out)]) == 0
    report = (out / "report.md").read_text().replace("\\", "")
    assert (
        len(re.findall(r"Note on the file \(digits-figures\): .*best_prec1, optimizer stay as", report)) == 1
    )


def test_a_note_says_what_a_file_of_coarse_numbers_lost_of_the_repair(base: Path) -> None:
    """Weights in bfloat16: the scores are the network's, the record has how far the file is from it."""
    coarse, out = base.parent / "coarse.pt", base.parent / "from-coarse"
    held = torch.load(base, weights_only=True)
    held["state_dict"] = {
        k: v.bfloat16() if v.is_floating_point() else v for k, v in held["state_dict"].items()
    }
    torch.save(held, coarse)
    words = ["--pretrained", str(coarse), "--dataset", "digits", "--method", "finetune", "--out", str(out)]
    assert main(["repair", *words, "--additional_param", "--epochs 1"]) == 0
    (record,), _ = read([out])
    found = record.subject["written_back"]["fidelity"]
    assert found["difference"] > found["limit"]
    assert "the numbers of coarse.pt (torch) are coarser than the repaired network's" in record.notes[-1]
    written = torch.load(out / record.subject["written_back"]["file"], weights_only=True)["state_dict"]
    assert {v.dtype for k, v in written.items() if k.endswith("weight")} == {torch.bfloat16}


def test_a_network_of_two_channels_comes_back_as_a_module(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """prdnn within the network: no program can say what the two channels do, so the module itself
    is there, and scores what the record says.
    """
    out, key = base.parent / "channels", "digits-base-prdnn-s0"
    words = [
        "--pretrained",
        str(base),
        "--dataset",
        "digits",
        "--method",
        "prdnn",
        "--set",
        "prdnn.layer=-2",
        "--set",
        "prdnn.points=5",
    ]
    assert main(["repair", *words, "--out", str(out)]) == 0
    assert not (out / "models" / f"{key}.torchscript.pt").exists()
    capsys.readouterr()
    module = out / "models" / f"{key}.module.pt"
    assert (
        main(["repair", "--testonly", "--pretrained", str(module), "--dataset", "digits", "--trust-pickle"])
        == 0
    )
    assert f"{scores(out)[key]['accuracy']:.4f}" in capsys.readouterr().out


def test_how_a_file_is_fed_travels_with_the_repaired_one(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that wants other pixels, said by options: its repaired copies score what the record
    says without being told again.
    """
    found = torch.load(base, weights_only=True)
    found["state_dict"]["0.weight"] /= 255
    folder = base.parent / "fed"
    folder.mkdir()
    torch.save(found, folder / "wide.pt")
    words = ["--pretrained", str(folder / "wide.pt"), "--dataset", "digits"]
    options = ["--input-range", "0..255", "--additional_param", "--epochs 2"]
    assert main(["repair", "--method", "finetune", *words, *options, "--out", str(folder / "out")]) == 0
    capsys.readouterr()
    accuracy = next(iter(scores(folder / "out").values()))["accuracy"]
    for file in ("digits-wide-finetune-s0.pt", "digits-wide-finetune-s0/wide.pt"):
        assert (
            main(
                [
                    "repair",
                    "--testonly",
                    "--pretrained",
                    str(folder / "out" / "models" / file),
                    "--dataset",
                    "digits",
                ]
            )
            == 0
        )
        assert f"{accuracy:.4f}" in capsys.readouterr().out


def test_settings_are_those_of_the_files_architecture(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's own name matches no row of a table: what it says of itself does, or --net_arch; --auto
    runs the tuned settings beside the defaults, names what they cost, and says what it did not
    find.
    """
    from airepair.cli.repair.run import Run, Wish
    from airepair.cli.repair.targets import Target, architecture_of
    from airepair.runner.specify import Shared
    from airepair.subjects.user_model.input_spec import ModelSource

    target, wish = Target("digits", "base", ModelSource(base)), Wish(("finetune",), (0,), Shared(), {}, {})
    assert target.architecture == "cnn"
    run: Any = Run(wish, *[None] * 3)  # type: ignore[arg-type]
    assert run._spec(target, "finetune", 0).settings_model == "cnn"
    assert architecture_of(ModelSource(base, "resnet", 34)) == "resnet34"
    assert architecture_of(ModelSource(Path("my.h5"))) is None
    words = [
        "train",
        "--dataset",
        "digits",
        "--net_arch",
        "fc",
        "--epochs",
        "2",
        "--out",
        str(base.parent / "fc"),
    ]
    assert main(words) == 0
    out = base.parent / "auto"
    words = [
        "--pretrained",
        str(base.parent / "fc" / "model.pt"),
        "--dataset",
        "digits",
        "--auto",
        "--out",
        str(out),
    ]
    assert main(["repair", *words, "--method", "memit", "lookup"]) == 0
    shown = capsys.readouterr()
    assert "--auto: no tuned settings for lookup: using those of settings.toml" in shown.err
    assert re.search(
        r"^memit\[tuned\] beside memit on digits-model \(n = 1\): accuracy [+-]\d+\.\d\d points; ",
        shown.out,
        re.MULTILINE,
    )
    found = {r.key: r for r in read([out])[0]}
    assert sorted(found) == [
        "digits-model-lookup-s0",
        "digits-model-memit-s0",
        "digits-model-memit[tuned]-s0",
    ]
    assert not found["digits-model-memit-s0"].options["ridge"]["origin"].startswith("tuned")
    assert found["digits-model-memit[tuned]-s0"].options["ridge"]["origin"].startswith("tuned: commit")


def test_an_interrupt_keeps_what_is_finished(
    base: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C in the second cell: exit code 130; the first one's record, model and report are there."""
    from airepair.methods.lookup import Lookup

    def stop(self: Lookup, task: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Lookup, "repair", stop)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background ignores it, and the suite may have begun there
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    out = base.parent / "stopped"
    assert (
        main(
            [
                "repair",
                "--pretrained",
                str(base),
                "--dataset",
                "digits",
                "--method",
                "noop",
                "lookup",
                "--out",
                str(out),
            ]
        )
        == 130
    )
    assert list(scores(out)) == ["digits-base-noop-s0"]
    assert "digits base" in (out / "report.md").read_text()
    assert "interrupted" in (out / "log.txt").read_text()


def test_a_plug_in_that_kills_its_process_costs_its_own_cell(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record names the signal and has the scores before; the method behind it is run, and
    --isolate gives a built-in method the same scores.
    """
    out, words = base.parent / "killed", ["repair", "--pretrained", str(base), "--dataset", "digits"]
    methods = ["--method", "tests.suicidal:Suicidal", "finetune", "--set", "finetune.epochs=2"]
    assert main([*words, *methods, "--out", str(out)]) == 1
    dead, alive = read([out])[0]
    assert (dead.status, dead.reason, alive.status) == ("crashed", "killed by SIGKILL", "repaired")
    assert dead.before["accuracy"] == alive.before["accuracy"]
    assert "crashed: killed by SIGKILL" in capsys.readouterr().err
    own, methods = base.parent / "own", ["--method", *methods[2:]]
    assert main([*words, "--isolate", *methods, "--out", str(own)]) == 0
    assert read([own])[0][0].after == alive.after
    assert {p.name for p in (own / "models").iterdir()} == {p.name for p in (out / "models").iterdir()}


@pytest.mark.parametrize("word", ["--isolate", "--no-isolate"])
def test_the_configuration_keeps_where_cells_run(word: str, tmp_path: Path) -> None:
    """Also that none is to run in a process of its own, and what the command line says counts first."""
    file = tmp_path / "config.toml"
    file.write_text(config.text_of(command_line(word, "--isolate-memory", "2"), {}, {}))
    again, other = command_line(), command_line("--no-isolate", "--isolate-memory", "3")
    for args in (again, other):
        config.apply(args, file)
    assert (again.isolate, again.isolate_memory) == (word == "--isolate", 2)
    assert (other.isolate, other.isolate_memory) == (False, 3)


def command_line(*words: str) -> argparse.Namespace:
    """The words as the command gets them."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(command.words(words))


BAD = {
    "no method": (["--dataset", "digits", "--net_arch", "fc"], "--method is missing"),
    "unknown method": (
        ["--method", "apricott", "--dataset", "digits", "--net_arch", "fc"],
        "did you mean 'apricot'",
    ),
    "unknown data set": (
        ["--method", "noop", "--dataset", "cifar11", "--net_arch", "fc"],
        "unknown data set 'cifar11'",
    ),
    "no data set": (["--method", "noop", "--net_arch", "fc"], "--dataset is missing"),
    "no architecture": (["--method", "noop", "--dataset", "digits"], "--net_arch is missing"),
    "unknown architecture": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "vgg"],
        "unknown --net_arch 'vgg'",
    ),
    "unknown depth": (
        ["--method", "noop", "--dataset", "cifar10", "--net_arch", "resnet", "--depth", "35"],
        "--depth 35 is not known",
    ),
    "absent file": (["--method", "noop", "--dataset", "digits", "--pretrained", "no.pt"], "no.pt"),
    "no model file": (
        ["--method", "noop", "--dataset", "digits", "--pretrained", __file__],
        "test_repair.py",
    ),
    "unknown option": (
        [
            "--method",
            "finetune",
            "dl2",
            "--dataset",
            "digits",
            "--net_arch",
            "fc",
            "--additional_param",
            "--rate 1",
        ],
        "no method of this run has an option 'rate'; accepted: finetune: lr, batch_size, epochs",
    ),
    "value out of range": (
        ["--method", "finetune", "--dataset", "digits", "--net_arch", "fc", "--additional_param", "--lr=-1"],
        "finetune.lr=-1.0 is out of range",
    ),
    "set of another method": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--set", "dl2.lr=1"],
        "'dl2' is not a method of this run",
    ),
    "seeds": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--seeds", "0,0"],
        "--seeds '0,0'",
    ),
    "profile": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--profile", "big"],
        "unknown profile 'big'",
    ),
    "device": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--device", "tpu9"],
        "--device 'tpu9'",
    ),
    "no memory": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--isolate-memory", "0"],
        "--isolate-memory 0 is out of range; accepted: a number above 0",
    ),
    "no logs": (["--input_logs", "nowhere"], "nowhere does not exist"),
    "no configuration": (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    "models without all": (["--method", "noop", "--dataset", "digits", "--models", "."], "is for --all"),
    "folder in use": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "fc", "--out", str(Path(__file__).parent)],
        "holds something",
    ),
    "own code without a file": (
        ["--method", "noop", "--dataset", "digits", "--net_arch", "net.py:Net"],
        "accepted: with --pretrained FILE",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the value and what would be accepted, no folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "cache"))
    words, expected = BAD[name]
    assert main(["repair", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("[")] == [lines[-1]]
    assert lines[-1].startswith("airepair: ")
    assert expected in lines[-1]
    assert not (tmp_path / "runs").exists()


def test_additional_param_goes_to_the_methods_that_have_it() -> None:
    """The paper's own words for DeepRepair; epoch and epochs are one; method.option is for one;
    --set counts last.
    """
    paper = "--batch_size 128 --lr 0.1 --lam 0 --extra 128 --epoch 60 --beta 1.0 --cutmix_prob 0 --ratio 0.9"
    assert given_options(["deeprepair"], [paper], [])["deeprepair"]["epoch"] == "60"
    found = given_options(["deeprepair", "dl2"], ["--epochs=3 dl2.lr=0.5 --lr -1"], ["dl2.epochs=7"])
    assert found == {"deeprepair": {"epoch": "3", "lr": "-1"}, "dl2": {"epochs": "7", "lr": "-1"}}
    assert given_options(["dl2"], ["--dl2-weight 0.04"], []) == {"dl2": {"weight": "0.04"}}
    assert given_options(["apricot+dl2"], ["--epochs 3"], []) == {"apricot+dl2": {"dl2_epochs": "3"}}
    assert words_of("--replace --lr 1") == [("replace", "true"), ("lr", "1")]
    for text in ("lr 0.1", "--lr '0.1", "=3"):
        with pytest.raises(UsageError, match="--additional_param"):
            words_of(text)


def test_both_spellings_of_additional_param_and_of_pretrained_are_read() -> None:
    """argparse would take `--lr=0.01` for an option of its own."""
    for given in (
        ["--additional_param", "--lr=0.01"],
        ["--additional_param", "--lr 0.01"],
        ["--additional_param=--lr=0.01"],
    ):
        assert words_of(command_line(*given).additional_param[0]) == [("lr", "0.01")]
    assert command_line("--pre-trained", "a.pt", "--method", "dl2", "apricot").pretrained == "a.pt"


def test_help_has_every_option_of_the_paper_in_groups_with_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """-h that a person can read: no line wider than a page of code, examples first."""
    with pytest.raises(SystemExit) as ended:
        main(["repair", "-h"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    paper = (
        "--all --net_arch --dataset --pretrained --pre-trained --depth --method --auto "
        "--additional_param --input_logs --testonly"
    )
    assert all(option in shown for option in paper.split())
    for group in ("what is repaired:", "how:", "instead of a repair:", "files:", "a model file of your own:"):
        assert group in shown
    assert "examples" in shown


def test_a_folder_is_never_an_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in the same second get two folders; --out refuses what is not empty."""
    monkeypatch.chdir(tmp_path)
    first, second = make(None, "digits-fc").path, make(None, "digits-fc").path
    assert first != second
    assert first.parent == second.parent == Path("runs")
    make(tmp_path / "new", "x").log("a line")
    with pytest.raises(UsageError, match="holds something"):
        make(tmp_path / "new", "x")


def test_plain_lines_are_few_and_say_what_is_left() -> None:
    """A line at the start of a phase, then one every five seconds with the time that the phase has left."""
    lines: list[str] = []
    times = iter(range(100))
    show = Lines(lines.append, clock=lambda: next(times))
    show.begin("digits-cnn-finetune-s0", 1, 2)
    for step in range(1, 13):
        show.progress("fine-tuning", step, 12, 0.5)
    assert lines[0] == "[1/2] digits-cnn-finetune-s0"
    assert lines[1:] == [
        "    fine-tuning  1/12  loss 0.5",
        "    fine-tuning  6/12  loss 0.5  left 0:00:06",
        "    fine-tuning  11/12  loss 0.5  left 0:00:01",
    ]
    show.progress("repair, training images", 64, 640, math.nan)
    assert lines[-1] == "    repair, training images  64/640"


def test_the_terminal_shows_cell_phase_step_and_loss() -> None:
    """The moving display, drawn into a string as a terminal would show it."""
    out = io.StringIO()
    logged: list[str] = []
    with Live(logged.append, Console(file=out, force_terminal=True, width=140)) as show:
        show.begin("digits-cnn-dl2-s0", 1, 3)
        show.progress("training", 2, 7, 0.25)
        show.bars.refresh()
        show.say("one line that stays")
    for text in ("digits-cnn-dl2-s0", "training", "2/7", "loss 0.25", "one line that stays"):
        assert text in out.getvalue()
    assert logged == ["[1/3] digits-cnn-dl2-s0", "one line that stays"]


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        (
            {"finetune": 0.05, "dl2": 0.02},
            "digits/FC (validation): use finetune (+5.00, 95 % interval -2.74..+12.74, n = 1). "
            "No repair method beat it; best was DL2 (+2.00",
        ),
        (
            {"apricot": -0.01},
            "keep the model unchanged: no method that ran improves it; the best was Apricot (-1.00",
        ),
        (
            {"finetune": 0.01, "dl2": 0.3, "apricot": 0.02},
            "use DL2 (+30.00, 95 % interval +23.50..+36.50, n = 1). It beats finetune (+1.00",
        ),
        (
            {"finetune": 0.01, "dl2": 0.012},
            "the best control: the difference is not significant (+0.20, interval ",
        ),
        ({"dl2": 0.3}, "finetune, the control, was not run"),
    ],
)
def test_the_recommendation_is_by_validation_and_never_none(gains: dict[str, float], expected: str) -> None:
    """What to use is named with its interval; a control that does as well is; what was not compared
    is said.
    """
    records = [
        Record.from_json(
            json.dumps(
                {
                    "schema": 1,
                    "key": f"digits-fc-{m}-s0",
                    "case": {"dataset": "digits", "model": "fc", "method": m, "seed": 0},
                    "status": "repaired",
                    "category": "control" if m == "finetune" else "retraining",
                    "subject": {"validation_accuracy": 0.6, "repaired_validation_accuracy": 0.6 + gain},
                    "provenance": {"n": {"validation": 300}},
                }
            )
        )
        for m, gain in gains.items()
    ]
    assert expected in recommendations(grid(records))[0]
