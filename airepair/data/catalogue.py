"""The four official data sets: what to fetch, where it lies, and what it must hold. Free of torch.

Addresses, layout and md5 sums are torchvision's (torchvision.datasets.mnist and .cifar, 0.26);
tests compare them where it is installed. The SHA-256 sums are of the images as uint8 in the
official order (N x H x W, or N x H x W x 3) and of the labels as uint8, training set first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """It is a file to fetch: its place below the data folder, its addresses, its md5 sum."""

    path: str
    urls: tuple[str, ...]
    md5: str


@dataclass(frozen=True)
class Official:
    """`files` are fetched; `members` (path -> md5) are what lies unpacked; `contents` is the SHA-256
    of the official images and labels.

    `known` maps the SHA-256 of other, known contents to the note that every record made from them carries.
    """

    name: str
    folder: str
    files: tuple[File, ...]
    members: tuple[tuple[str, str], ...] = ()
    contents: str = ""
    known: tuple[tuple[str, str], ...] = ()


IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _idx(name: str, folder: str, mirrors: tuple[str, ...], md5s: tuple[str, ...], contents: str) -> Official:
    files = (
        File(f"{folder}/raw/{n}.gz", tuple(f"{m}{n}.gz" for m in mirrors), md5)
        for n, md5 in zip(IDX, md5s, strict=True)
    )
    return Official(name, f"{folder}/raw", tuple(files), contents=contents)


def _cifar(
    name: str,
    folder: str,
    archive: str,
    md5: str,
    members: dict[str, str],
    contents: str = "",
    known: tuple[tuple[str, str], ...] = (),
) -> Official:
    file = File(archive, (f"https://www.cs.toronto.edu/~kriz/{archive}",), md5)
    return Official(name, folder, (file,), tuple(members.items()), contents, known)


OFFICIAL: dict[str, Official] = {
    "mnist": _idx(
        "mnist",
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    ),
    "fashion_mnist": _idx(
        "fashion_mnist",
        "FashionMNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f",
    ),
    "cifar10": _cifar(
        "cifar10",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        known=(
            (
                "a1b2b0e409ea52604fc7b0c91674a41c8b9a662f8d90a06a1dffffa3d78cb6b5",
                "97 of 60,000 images not official",
            ),
        ),
    ),
    "cifar100": _cifar(
        "cifar100",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        "84b86054909012b11f3c2443ad844f6353586312facc59cd4b8385c15ada0166",
    ),
}
