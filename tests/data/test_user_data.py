"""A user's own data: npz and folders; every mistake is one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airepair import data
from airepair.data.user_inputs import read_inputs
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


def test_data_that_are_named_like_a_registered_set_have_another_name(tmp_path: Path) -> None:
    """Its budgets, its sizes and its records are none of theirs."""
    np.savez(tmp_path / "digits.npz", **arrays())
    text = f"npz:{tmp_path / 'digits.npz'}"
    assert data.load(text).name == data.short_name(text) == "digits_file"
    assert data.short_name("digits") == "digits"
    assert data.short_name(f"folder:{tmp_path / 'CIFAR10'}") == "cifar10_file"


def test_names_of_classes_may_be_bytes(tmp_path: Path) -> None:
    """Of the data set, and of inputs to repair."""
    names = np.array([b"a", "\u00e9".encode(), b"c", b"\xff"])
    np.savez(tmp_path / "a.npz", **arrays(), classes=names)
    assert data.load(f"npz:{tmp_path / 'a.npz'}").classes == ("a", "\u00e9", "c", "\\xff")
    inputs = read_inputs(f"npz:{tmp_path / 'a.npz'}", ("\u00e9", "a", "c", "\\xff"), (3, 6, 6))
    assert inputs.y[:4].tolist() == [1, 0, 2, 3]


def test_an_npz_keeps_its_test_set(tmp_path: Path) -> None:
    """The official division of a user's file is respected."""
    a = arrays()
    np.savez(
        tmp_path / "a.npz",
        **a,
        x_test=a["x_train"][:12],
        y_test=a["y_train"][:12],
        classes=np.array(["a", "b", "c", "d"]),
    )
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
        (
            {"classes": np.array(["a", "b", "a", "c"])},
            "class 'a' appears 2 times; accepted: one name per class",
        ),
        ({"x_train": None, "pictures": np.zeros(3)}, "holds y_train, pictures; accepted: x_train"),
        ({"x_test": np.zeros((4, 6, 6, 3), np.uint8)}, "holds x_train, y_train, x_test; accepted: x_train"),
        (
            {"train_images": np.zeros((4, 6, 6, 3), np.uint8), "train_labels": np.arange(4)},
            "holds x_train, y_train, train_images, train_labels;",
        ),
        (
            {"x_val": np.zeros((4, 6, 6), np.uint8), "y_val": np.arange(4)},
            r"test images are \(6, 6\), training images \(6, 6, 3\)",
        ),
    ],
)
def test_an_npz_that_cannot_be_meant_is_one_line(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
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


@pytest.mark.parametrize("test", [True, False])
def test_medmnist_s_names_are_read(tmp_path: Path, test: bool) -> None:
    """Labels N x 1; validation images stand behind the training images, or are the test set where
    there is none, and a note says so.
    """
    a = arrays()
    found = {"train_images": a["x_train"], "train_labels": a["y_train"][:, None]}
    found |= {"val_images": a["x_train"][:20], "val_labels": a["y_train"][:20, None]}
    found |= {"test_images": a["x_train"][:12], "test_labels": a["y_train"][:12, None]} if test else {}
    np.savez(tmp_path / "med.npz", **found)
    source = data.whole(f"npz:{tmp_path / 'med.npz'}")
    assert source.test is not None
    assert (len(source.train), len(source.test)) == ((100, 12) if test else (80, 20))
    assert source.notes == (
        (
            "val (20 images) stands behind the 80 training images and counts as training data"
            if test
            else "val is the test set"
        ),
    )


def folder(
    path: Path,
    classes: tuple[str, ...] = ("cat", "dog"),
    n: int = 10,
    size: tuple[int, int] = (5, 4),
    mode: str = "RGB",
) -> Path:
    for k, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(n):
            Image.new(mode, size, color=(k * 40 + i) if mode == "L" else (k * 40 + i, 0, 0)).save(
                path / name / f"{i:03}.png"
            )
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


def picture(
    path: Path, mode: str, colour: tuple[int, ...], transparent: tuple[int, int] | None = None
) -> None:
    """An image of one colour, written in that mode, with one pixel of full transparency where asked."""
    image = Image.new(mode, (5, 4), colour if len(colour) > 1 else colour[0])
    if transparent:
        image.putpixel(transparent, (*colour[:-1], 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.mark.parametrize(
    ("name", "mode", "end"),
    [("la", "LA", "png"), ("palette", "P", "png"), ("gif", "P", "gif"), ("bits", "1", "png")],
)
def test_grey_of_any_kind_stays_grey(tmp_path: Path, name: str, mode: str, end: str) -> None:
    """An opaque alpha channel, a palette of greys, a GIF, one bit per pixel: one channel, and the
    values as drawn.
    """
    for k, label in enumerate("ab"):
        for i in range(6):
            grey = Image.new("L", (5, 4), 255 * k)
            (tmp_path / name / label).mkdir(parents=True, exist_ok=True)
            (grey.convert("RGB") if mode == "P" else grey).convert(mode).save(
                tmp_path / name / label / f"{i}.{end}"
            )
    found = data.whole(f"folder:{tmp_path / name}").train
    assert tuple(found.x.shape[1:]) == (1, 4, 5)
    assert found.x.flatten(1)[:, 0].tolist() == [0] * 6 + [255] * 6


def test_a_grey_image_does_not_stop_a_coloured_set(tmp_path: Path) -> None:
    """It becomes coloured like the others, and the note says how many did."""
    pets = folder(tmp_path / "pets")
    Image.new("L", (5, 4), 7).save(pets / "cat" / "grey.png")
    source = data.whole(f"folder:{pets}")
    assert tuple(source.train.x.shape[1:]) == (3, 4, 5)
    assert source.train.x[10].flatten().tolist() == [7] * 60
    assert source.notes == ("1 grey images among coloured ones are read as coloured",)


def test_a_transparent_part_stands_on_white(tmp_path: Path) -> None:
    """As a web page shows it, half-transparent pixels mixed; the note says how many images; an
    opaque alpha channel changes nothing.
    """
    for label in "ab":
        for i in range(6):
            picture(
                tmp_path / "t" / label / f"{i}.png",
                "RGBA",
                (200, 0, 100, 255),
                (0, 0) if label == "a" else None,
            )
    half = Image.new("RGBA", (5, 4), (0, 0, 0, 51))
    half.save(tmp_path / "t" / "b" / "half.png")
    source = data.whole(f"folder:{tmp_path / 't'}")
    assert source.train.x[0, :, 0, 0].tolist() == [255] * 3
    assert source.train.x[0, :, 1, 1].tolist() == source.train.x[6, :, 0, 0].tolist() == [200, 0, 100]
    assert source.train.x[12, :, 0, 0].tolist() == [204] * 3  # 255 x (1 - 51 / 255)
    assert source.notes == ("7 images with a transparent part stand on white",)


def test_a_drawing_in_the_alpha_channel_alone_is_never_lost(tmp_path: Path) -> None:
    """Black ink is seen on white; white ink would not be, and is refused with the file's name."""
    for label in "ab":
        for i in range(6):
            picture(tmp_path / "ink" / label / f"{i}.png", "RGBA", (0, 0, 0, 255), (1, 2))
    assert data.whole(f"folder:{tmp_path / 'ink'}").train.x.unique().tolist() == [0, 255]
    picture(tmp_path / "ink" / "b" / "5.png", "RGBA", (255, 255, 255, 255), (1, 2))
    with pytest.raises(
        UsageError, match=r"5\.png is of one colour on a white ground, its drawing is in its alpha channel"
    ):
        data.whole(f"folder:{tmp_path / 'ink'}")


def test_an_animation_is_refused(tmp_path: Path) -> None:
    """Its first image alone would be a choice that nobody made."""
    pets = folder(tmp_path / "pets")
    Image.new("L", (5, 4)).save(
        pets / "cat" / "two.gif", save_all=True, append_images=[Image.new("L", (5, 4), 200)]
    )
    with pytest.raises(UsageError, match=r"two\.gif holds 2 images; accepted: one image per file"):
        data.whole(f"folder:{pets}")


@pytest.mark.parametrize(
    ("parts", "sizes", "note"),
    [
        (("train", "test"), (20, 6), ()),
        (("Train", "TEST"), (20, 6), ()),
        (("training", "testing"), (20, 6), ()),
        (("train", "val"), (20, 6), ("val is the test set",)),
        (
            ("train", "Valid", "test"),
            (26, 6),
            ("Valid (6 images) stands behind the 20 training images and counts as training data",),
        ),
        (("train",), (20, None), ()),
    ],
)
def test_the_usual_divisions_of_a_folder_are_read(
    tmp_path: Path, parts: tuple[str, ...], sizes: tuple[int, int | None], note: tuple[str, ...]
) -> None:
    """In any case of letters; with validation images as test set, or behind the training images;
    with a training part alone.
    """
    for i, part in enumerate(parts):
        folder(tmp_path / "d" / part, n=3 if i else 10)
    source = data.whole(f"folder:{tmp_path / 'd'}")
    assert (len(source.train), None if source.test is None else len(source.test)) == sizes
    assert source.notes == note


def test_images_below_a_class_folder_are_its_own(tmp_path: Path) -> None:
    """`<class>/images/<image>`, as some sets have it; a class may be called train."""
    folder(tmp_path / "n" / "car", classes=("images",))
    folder(tmp_path / "n" / "train", classes=("a", "b"), n=3)
    folder(tmp_path / "n", classes=("plane",))
    with pytest.raises(UsageError, match="holds car beside train; accepted: PATH/<class>/<image>"):
        data.whole(f"folder:{tmp_path / 'n'}")  # folders in `train` may be its classes: nobody guesses
    (tmp_path / "n" / "train").rename(tmp_path / "n" / "rail")
    source = data.whole(f"folder:{tmp_path / 'n'}")
    assert source.classes == ("car", "plane", "rail")
    assert source.train.y.bincount().tolist() == [10, 10, 6]


def test_what_tools_leave_in_a_folder_is_no_image_and_no_class(tmp_path: Path) -> None:
    """macOS, Windows and file servers: the set is read as if it was not there."""
    pets = folder(tmp_path / "pets")
    for name in (
        "cat/._000.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "__MACOSX/cat/._000.png",
        "@eaDir/x.png",
        ".ipynb_checkpoints/y.png",
    ):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        (pets / name).write_bytes(b"no image")
    source = data.whole(f"folder:{pets}")
    assert source.classes == ("cat", "dog")
    assert len(source.train) == 20


def test_a_folder_of_another_build_says_what_is_wanted(tmp_path: Path) -> None:
    """A wrapping folder, a division below the classes, a division without a training part, two of
    one kind.
    """
    folder(tmp_path / "wrapped" / "inner")
    with pytest.raises(UsageError, match=r"wrapped holds one folder only; .* give folder:.*inner"):
        data.whole(f"folder:{tmp_path / 'wrapped'}")
    for label in ("cat", "dog"):
        folder(tmp_path / "below" / label, classes=("train", "test"), n=3)
    with pytest.raises(
        UsageError,
        match=r"cat holds test and train: the split folders are inside the class folders; accepted: "
        r"PATH/<class>",
    ):
        data.whole(f"folder:{tmp_path / 'below'}")
    folder(tmp_path / "no" / "test")
    folder(tmp_path / "no" / "holdout")
    with pytest.raises(UsageError, match="holds test, but no train; accepted"):
        data.whole(f"folder:{tmp_path / 'no'}")
    folder(tmp_path / "two" / "train")
    folder(tmp_path / "two" / "training")
    with pytest.raises(UsageError, match="holds train and training; accepted: one of them"):
        data.whole(f"folder:{tmp_path / 'two'}")


def test_a_folder_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    """Another size, an unreadable image, no classes, an unknown place: each named."""
    pets = folder(tmp_path / "pets")
    Image.new("RGB", (9, 9)).save(pets / "dog" / "large.png")
    with pytest.raises(UsageError, match=r"large\.png is 9 x 9, 000\.png 4 x 5"):
        data.load(f"folder:{pets}")
    (pets / "dog" / "large.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"large\.png is not a readable image"):
        data.load(f"folder:{pets}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no class folders"):
        data.load(f"folder:{tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="does not exist"):
        data.load(f"npz:{tmp_path / 'nowhere.npz'}")
