"""Official data sets in the layouts that people have, at toy size."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from airepair.data import official_files
from airepair.data.catalogue import IDX, OFFICIAL, File
from airepair.errors import Unavailable, UsageError

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(">BBBB", 0, 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def arrays() -> list[np.ndarray]:
    y = np.arange(20, dtype=np.uint8) % 10
    return [
        RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8),
        y,
        RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8),
        y,
    ]


@pytest.mark.parametrize("folder", ["MNIST/raw", "MNIST", "mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_found_packed_or_not(
    tmp_path: Path, arrays: list[np.ndarray], folder: str, packed: bool
) -> None:
    """torchvision's folder and a folder of the set's name both do."""
    (tmp_path / folder).mkdir(parents=True)
    for name, array in zip(IDX, arrays, strict=True):
        (tmp_path / folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(idx(array)) if packed else idx(array)
        )
    found = official_files.read("mnist", tmp_path)
    assert np.array_equal(found.x_train, arrays[0])
    assert np.array_equal(found.y_test, arrays[3])
    assert "not the official images and labels" in official_files.note("mnist", found)


def test_a_damaged_idx_file_is_one_line(tmp_path: Path, arrays: list[np.ndarray]) -> None:
    """A truncated file is named, with what to do."""
    (tmp_path / "mnist").mkdir()
    for name, array in zip(IDX, arrays, strict=True):
        (tmp_path / "mnist" / name).write_bytes(idx(array)[:-1])
    with pytest.raises(
        UsageError, match=r"train-images-idx3-ubyte is not a complete idx file .* fetch it again"
    ):
        official_files.read("mnist", tmp_path)


def test_the_npz_layout_is_the_second_source(tmp_path: Path, arrays: list[np.ndarray]) -> None:
    """`<name>.npz` with Keras's key names; labels may be N x 1."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    values = [a[:, None] if a.ndim == 1 else a for a in arrays]
    np.savez(tmp_path / "fashion_mnist.npz", **dict(zip(keys, values, strict=True)))
    assert np.array_equal(official_files.read("fashion_mnist", tmp_path).y_train, arrays[1])


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_an_absent_set_says_what_to_put_where(tmp_path: Path, name: str) -> None:
    """One sentence: the command, the official files, the npz, and the folder."""
    with pytest.raises(Unavailable) as caught:
        official_files.read(name, tmp_path)
    text = str(caught.value)
    assert f"airepair data get {name}" in text
    assert OFFICIAL[name].folder in text
    assert str(tmp_path) in text
    assert f"{name}.npz" in text
    assert "\n" not in text


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("unpickled a file whose md5 sum does not match",))


def test_an_unofficial_pickle_is_never_opened(tmp_path: Path) -> None:
    """A pickle in CIFAR's place with another md5 sum is refused before it is unpickled."""
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test"):
        (tmp_path / "cifar-100-python" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UsageError, match="a pickle that is not the official file is not opened"):
        official_files.read("cifar100", tmp_path)


def test_a_verified_archive_is_unpacked_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive of the download gives N x H x W x C images in the official order, and fine labels."""
    x = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    batch = pickle.dumps({"data": x.reshape(6, -1), "fine_labels": list(range(6)), "coarse_labels": [0] * 6})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("train", "test", "../outside"):
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    packed, md5 = buffer.getvalue(), hashlib.md5(batch).hexdigest()
    file = File("cifar-100-python.tar.gz", (), hashlib.md5(packed).hexdigest())
    monkeypatch.setitem(
        OFFICIAL,
        "cifar100",
        replace(OFFICIAL["cifar100"], files=(file,), members=(("train", md5), ("test", md5))),
    )
    (tmp_path / file.path).write_bytes(packed)
    found = official_files.read("cifar100", tmp_path)
    assert np.array_equal(found.x_train, x.transpose(0, 2, 3, 1))
    assert found.y_test is not None
    assert found.y_test.tolist() == list(range(6))
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "cifar-100-python.tar.gz",
        "test",
        "train",
    ]
    assert official_files.note("cifar100", found) == ""


def test_addresses_and_sums_are_torchvisions() -> None:
    """Our copy of torchvision's table has not drifted from the installed one."""
    from airepair.models.vision import torchvision

    datasets = torchvision().datasets
    for name, theirs in {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}.items():
        assert {(f.path.rpartition("/")[2], f.md5) for f in OFFICIAL[name].files} == set(theirs.resources)
        assert [u.rpartition("/")[0] + "/" for u in OFFICIAL[name].files[0].urls] == theirs.mirrors
    for name, theirs in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}.items():
        assert OFFICIAL[name].files[0].urls == (theirs.url,)
        assert OFFICIAL[name].files[0].md5 == theirs.tgz_md5
        assert [list(m) for m in OFFICIAL[name].members] == theirs.train_list + theirs.test_list
        assert OFFICIAL[name].folder == theirs.base_folder
