"""The early state of a brought network's own training: found, named, or refused; Apricot's
submodels start there.
"""

import argparse
from pathlib import Path

import pytest
import torch

from airepair.cli.flags import add_flags
from airepair.cli.main import main
from airepair.errors import UsageError
from airepair.formats.detect import sniff
from airepair.records import read
from airepair.subjects.user_model.input_spec import brought_from
from airepair.subjects.user_model.load import bring
from airepair.types import Subject


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `airepair train` leaves: model.pt and early.pt, the state after the first of six epochs."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    assert (
        main(["train", "--dataset", "digits", "--net_arch", "fc", "--epochs", "6", "--out", str(folder)]) == 0
    )
    return folder


def subject_of(path: Path, *words: str) -> Subject:
    """The file as a subject on digits."""
    parser = argparse.ArgumentParser()
    add_flags(parser, "repair")
    parser.set_defaults(pretrained=str(path), net_arch=None, depth=None)
    return bring(
        brought_from(parser.parse_args(words)), "digits", profile="smoke", device=torch.device("cpu")
    )[0]


def copied(trained: Path, folder: Path) -> Path:
    """The model elsewhere, as the paper's example has it: alone."""
    path = folder / "baseline.pt"
    path.write_bytes((trained / "model.pt").read_bytes())
    return path


def test_early_pt_of_the_same_training_is_taken(trained: Path, tmp_path: Path) -> None:
    """Its weights are the checkpoint, and the record says which file; Apricot has no remark on a
    missing one.
    """
    subject = subject_of(trained / "model.pt")
    expected = torch.load(trained / "early.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, expected[k]) for k, v in subject.checkpoints["early"].state_dict().items())
    assert subject.origin["early"]["from"] == "early.pt beside it, of the same training"
    words = [
        "--dataset",
        "digits",
        "--method",
        "apricot",
        "--additional_param",
        "--submodels 2 --submodel_epochs 1 --further_epochs 1",
    ]
    notes = {}
    for path in (trained / "model.pt", copied(trained, tmp_path)):
        assert main(["repair", "--pretrained", str(path), *words, "--out", str(tmp_path / path.stem)]) == 0
        notes[path.stem] = " ".join(read([tmp_path / path.stem])[0][0].notes)
    assert "no early checkpoint" in notes["baseline"]
    assert "no early checkpoint" not in notes["model"]


def test_another_trainings_early_pt_is_left_alone(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, a file of somebody else's, one that is too big, the file itself: none is taken
    unasked.
    """
    path = copied(trained, tmp_path)
    found = torch.load(trained / "early.pt", weights_only=True)
    torch.save(found | {"seed": 1}, tmp_path / "early.pt")
    assert not subject_of(path).checkpoints
    (tmp_path / "early.pt").write_bytes(b"nothing")
    assert not subject_of(path).checkpoints
    assert not subject_of(trained / "early.pt").checkpoints
    (tmp_path / "early.pt").write_bytes((trained / "early.pt").read_bytes())
    assert subject_of(path).checkpoints
    monkeypatch.setattr(sniff, "__defaults__", (10_000,))
    assert not subject_of(path).checkpoints


def test_an_early_state_may_be_named(trained: Path, tmp_path: Path) -> None:
    """By the option or in the TOML file beside the model; the option counts first."""
    path = copied(trained, tmp_path)
    torch.save(torch.load(trained / "early.pt", weights_only=True)["state_dict"], tmp_path / "first.pt")
    assert subject_of(path, "--early", str(tmp_path / "first.pt")).origin["early"]["from"] == "option"
    (tmp_path / "baseline.toml").write_text('early = "first.pt"\n')
    subject = subject_of(path)
    assert subject.origin["early"]["from"] == "baseline.toml"
    assert list(subject.checkpoints) == ["early"]


def test_an_early_state_that_does_not_fit_is_one_line(trained: Path, tmp_path: Path) -> None:
    """A file that is not there, and another network's."""
    path = copied(trained, tmp_path)
    with pytest.raises(UsageError, match=r"early \(option\): there is no file"):
        subject_of(path, "--early", str(tmp_path / "none.pt"))
    assert (
        main(
            [
                "train",
                "--dataset",
                "digits",
                "--net_arch",
                "cnn",
                "--epochs",
                "1",
                "--out",
                str(tmp_path / "cnn"),
            ]
        )
        == 0
    )
    with pytest.raises(UsageError, match=r"is a state of another network: .*; accepted: an earlier state"):
        subject_of(path, "--early", str(tmp_path / "cnn" / "model.pt"))
