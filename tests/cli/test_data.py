"""airepair data list|get|check."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from airepair.cli import data as command
from airepair.errors import UsageError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(words)))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path))
    rng, y = np.random.default_rng(0), np.arange(100) % 10
    x = rng.integers(0, 256, (100, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return tmp_path


def test_list_says_where_each_set_lies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder, the file that would be read, and the command for what is absent."""
    assert run("list") == 0
    out = capsys.readouterr().out
    assert f"data folder: {root}" in out
    assert f"{root / 'mnist.npz'}" in out
    assert "not found (airepair data get cifar10)" in out


def test_check_tells_official_files_from_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is read; other images than the official ones are exit code 1; an absent set
    that nobody named is no error.
    """
    assert run("check") == 1
    out = capsys.readouterr().out
    assert "mnist: mnist.npz: not the official images and labels (SHA-256 " in out
    assert "cifar100: not found" in out
    assert "digits: as it comes; 10 classes, 1x8x8; train 600, repair 400, validation 300, test 497" in out


def test_check_passes_where_nothing_is_wrong(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Absent sets, and one of a package: exit code 0; an absent one that is named: 1."""
    (root / "mnist.npz").unlink()
    assert run("check") == 0
    assert run("check", "mnist") == 1
    assert "mnist not found: run `airepair data get mnist`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "here"),
    [("mnist", "MNIST/raw/t10k-labels-idx1-ubyte.gz"), ("cifar10", "cifar-10-batches-py/test_batch")],
)
def test_check_names_the_files_that_are_missing(
    root: Path, capsys: pytest.CaptureFixture[str], name: str, here: str
) -> None:
    """A partial set is exit code 1, named or not, and the line says which files it lacks."""
    (root / "mnist.npz").unlink()
    (root / here).parent.mkdir(parents=True)
    (root / here).touch()
    lacking = (
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images"
        if name == "mnist"
        else "data_batch_1, data_batch_2, data_batch_3"
    )
    for words in ((), (name,)):
        assert run("check", *words) == 1
        assert f"{(root / here).parent} lacks {lacking}" in capsys.readouterr().err


def test_names_may_be_spelt_as_the_options_spell_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """fmnist, Fashion-MNIST, CIFAR-10, as `--dataset` takes them."""
    np.savez(root / "fashion_mnist.npz", **np.load(root / "mnist.npz"))
    assert run("get", "fmnist", "Fashion-MNIST") == 0
    assert capsys.readouterr().out.count(f"fashion_mnist: {root / 'fashion_mnist.npz'}") == 2


def test_check_fails_on_a_damaged_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line."""
    (root / "mnist.npz").write_bytes(b"broken")
    assert run("check", "mnist") == 1
    assert "is not a readable npz file" in capsys.readouterr().err


def test_get_leaves_what_is_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No transfer for a set at hand or in a package; a name is needed; an unknown one is refused."""
    assert run("get", "mnist", "digits") == 0
    assert f"mnist: {root / 'mnist.npz'}" in capsys.readouterr().out
    with pytest.raises(UsageError, match="needs a name; accepted: digits"):
        run("get")
    with pytest.raises(UsageError, match="unknown data set 'minst'"):
        run("get", "minst")


def test_get_reports_a_failed_transfer_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; the address and the reason."""
    from dataclasses import replace

    from airepair.data.catalogue import OFFICIAL

    file = OFFICIAL["cifar100"].files[0]
    monkeypatch.setitem(
        OFFICIAL,
        "cifar100",
        replace(OFFICIAL["cifar100"], files=(replace(file, urls=("http://127.0.0.1:9/x",)),)),
    )
    assert run("get", "cifar100") == 1
    err = capsys.readouterr().err
    assert "cifar-100-python.tar.gz could not be fetched (http://127.0.0.1:9/x" in err
    assert err.count("\n") == 1
