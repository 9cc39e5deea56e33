"""Carrying files in pieces: what comes out is what went in, or it is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from airepair.errors import UsageError
from benchmarks.campaign import chunks
from benchmarks.campaign.carry import main
from benchmarks.campaign.chunks import join, split


def test_a_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """Pieces are no larger than asked, and the whole is the same."""
    content = bytes(range(256)) * 40
    (tmp_path / "a.npz").write_bytes(content)
    listed = split(tmp_path / "a.npz", tmp_path / "pieces", 1000)
    sizes = [p.stat().st_size for p in sorted((tmp_path / "pieces").glob("a.npz.0*"))]
    assert max(sizes) == 1000
    assert sum(sizes) == len(content)
    assert join(listed, tmp_path / "there").read_bytes() == content


def test_a_folder_comes_back_with_its_files(tmp_path: Path) -> None:
    """Also empty files, and folders inside."""
    (tmp_path / "state" / "deep").mkdir(parents=True)
    (tmp_path / "state" / "deep" / "x.pt").write_bytes(b"weights" * 500)
    (tmp_path / "state" / "empty").touch()
    found = join(split(tmp_path / "state", tmp_path / "pieces", 4096), tmp_path / "there")
    assert (found / "deep" / "x.pt").read_bytes() == b"weights" * 500
    assert (found / "empty").read_bytes() == b""


@pytest.mark.parametrize("damage", ["missing", "changed", "swapped", "list", "climbing"])
def test_damage_is_refused_and_leaves_nothing(tmp_path: Path, damage: str) -> None:
    """A missing, changed or swapped piece, a list that is none, a name that leads out of the folder."""
    (tmp_path / "a").write_bytes(b"0123456789" * 30)
    listed = split(tmp_path / "a", tmp_path / "pieces", 100)
    piece = tmp_path / "pieces" / "a.001"
    found = json.loads(listed.read_text())
    if damage == "missing":
        piece.unlink()
    elif damage == "changed":
        piece.write_bytes(b"x" * 100)
    elif damage == "swapped":
        found["sha256"] = "0" * 64
    elif damage == "climbing":
        found["name"] = "../a"
    listed.write_text("{}" if damage == "list" else json.dumps(found))
    with pytest.raises(UsageError):
        join(listed, tmp_path / "there")
    assert not list((tmp_path / "there").glob("*"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Split, join, and one line with exit code 2 where the target exists."""
    (tmp_path / "a").write_bytes(b"abc")
    assert main(["split", str(tmp_path / "a"), str(tmp_path / "p")]) == 0
    listed = capsys.readouterr().out.strip()
    assert main(["join", listed, str(tmp_path / "q")]) == 0
    assert (tmp_path / "q" / "a").read_bytes() == b"abc"
    assert main(["join", listed, str(tmp_path / "q")]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "kind"), [("../a", tarfile.REGTYPE), ("a", tarfile.SYMTYPE)])
def test_an_older_python_extracts_files_and_folders_alone(
    name: str, kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 3.11.4 tarfile has no filter; a name outside and a link are refused, and a folder comes back."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"abc")
    assert (join(split(tmp_path / "folder", tmp_path / "p"), tmp_path / "q") / "file").read_bytes() == b"abc"
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with tarfile.open(tmp_path / "bad.tar") as archive, pytest.raises(UsageError, match="no file or folder"):
        chunks._unpack(archive, tmp_path / "q", tmp_path / "list")
