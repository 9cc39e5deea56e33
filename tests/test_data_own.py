"""A user's own data: npz and folders; every mistake is one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airepair import data
from airepair.errors import UsageError


def arrays(n: int = 80) -> dict[str, np.ndarray]:
    y = np.arange(n) % 4
    return {"x_train": np.random.default_rng(0).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8), "y_train": y}


def test_an_npz_without_a_test_set_is_divided_in_four(tmp_path: Path) -> None:
    """Shape, classes and the sizes of the splits follow from the file."""
    np.savez(tmp_path / "My Data-1.npz", **arrays())
    found = data.load(f"npz:{tmp_path / 'My Data-1.npz'}")
    assert found.name == "my_data_1"
    assert found.shape == (3, 6, 6)
    assert sum(len(s) for s in (found.train, found.repair, found.validation, found.test)) == 80
    assert found.robustness.eps1 > 0


def test_an_npz_keeps_its_test_set(tmp_path: Path) -> None:
    """The official division of a user's file is respected."""
    a = arrays()
    np.savez(tmp_path / "a.npz", **a, x_test=a["x_train"][:12], y_test=a["y_train"][:12], classes=np.array(["a", "b", "c", "d"]))
    found = data.load(f"npz:{tmp_path / 'a.npz'}")
    assert len(found.test) == 12
    assert found.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None}, "holds y_train; accepted: x_train"),
        ({"y_train": np.arange(79) % 4}, "accepted: 80 integers"),
        ({"y_train": (np.arange(80) % 4) - 1}, r"labels -1\.\.2"),
        ({"y_train": np.arange(80) % 4 / 2}, "y_train is float64"),
        ({"x_train": np.full((80, 6, 6), np.nan)}, "accepted: uint8, or floats"),
        ({"x_train": np.full((80, 6, 6), 255.0)}, r"255\.\.255; accepted"),
        ({"x_train": np.zeros((80, 3, 6, 6), np.uint8)}, "N x H x W x C with 1 or 3 channels"),
        ({"x_train": np.array([object()] * 80)}, "not a readable npz"),
        ({"y_train": np.zeros(80, int)}, "one class only"),
        ({"y_train": np.r_[np.zeros(79, int), 1]}, "fewer than 4 training images"),
        ({"classes": np.array(["a", "b"])}, r"accepted: 0\.\.1"),
    ],
)
def test_an_npz_that_cannot_be_meant_is_one_line(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    """The value and what would be accepted."""
    np.savez(tmp_path / "a.npz", **{k: v for k, v in (arrays() | change).items() if v is not None})
    with pytest.raises(UsageError, match=message) as caught:
        data.load(f"npz:{tmp_path / 'a.npz'}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x00" * 100])
def test_a_damaged_npz_is_one_line(tmp_path: Path, content: bytes) -> None:
    """No traceback for what is no npz at all."""
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UsageError, match="not a readable npz"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def folder(path: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 10, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> Path:
    for k, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(n):
            Image.new(mode, size, color=(k * 40 + i) if mode == "L" else (k * 40 + i, 0, 0)).save(path / name / f"{i:03}.png")
    return path


def test_class_folders_become_classes(tmp_path: Path) -> None:
    """Class names in the order of the alphabet; width and height not exchanged."""
    found = data.load(f"folder:{folder(tmp_path / 'pets')}")
    assert found.classes == ("cat", "dog")
    assert found.shape == (3, 4, 5)
    assert (found.train.x[found.train.y == 1][:, 0, 0, 0] >= 40).all()


def test_grey_images_stay_grey_and_test_folders_stay_test(tmp_path: Path) -> None:
    """One channel, and PATH/test is the test set."""
    folder(tmp_path / "g" / "train", mode="L")
    folder(tmp_path / "g" / "test", n=3, mode="L")
    found = data.load(f"folder:{tmp_path / 'g'}")
    assert found.shape == (1, 4, 5)
    assert len(found.test) == 6


def test_a_folder_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    """Another size, an unreadable image, no classes, an unknown place: each named."""
    pets = folder(tmp_path / "pets")
    Image.new("RGB", (9, 9)).save(pets / "dog" / "large.png")
    with pytest.raises(UsageError, match=r"large\.png is \(9, 9, 3\)"):
        data.load(f"folder:{pets}")
    (pets / "dog" / "large.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"large\.png is no readable image"):
        data.load(f"folder:{pets}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no class folders"):
        data.load(f"folder:{tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="does not exist"):
        data.load(f"npz:{tmp_path / 'nowhere.npz'}")
