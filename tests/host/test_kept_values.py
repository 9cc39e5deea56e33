"""JSON values in a file of lines: made once, and made again if the file does not hold what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airepair.host import kept_values
from airepair.host.kept_values import KeptValues

VALUE = {"a": [1, 0.1, None], "b": "ü\u2028"}


def ask(file: Path, key: str, value: Any) -> tuple[Any, int]:
    """What a process that starts now gets, and how many values it had to make."""
    kept = KeptValues(file)
    return kept.of(key, lambda: value), kept.made


def test_a_value_is_made_once(tmp_path: Path) -> None:
    """The next process reads it, whatever it would have made; another key is another value."""
    file = tmp_path / "folder" / "kept.jsonl"
    assert ask(file, "k", VALUE) == (VALUE, 1)
    assert ask(file, "k", "other") == (VALUE, 0)
    assert ask(file, "l", "other") == ("other", 1)
    assert ask(file, "k", "other") == (VALUE, 0)


def test_what_a_crash_or_a_stranger_left_is_made_again(tmp_path: Path) -> None:
    """A torn line costs its own value only, and a changed one does not count."""
    file = tmp_path / "kept.jsonl"
    ask(file, "k", VALUE)
    ask(file, "l", "second")
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    assert ask(file, "l", "anew") == ("anew", 1)
    assert ask(file, "l", "") == ("anew", 0)
    assert ask(file, "k", "") == (VALUE, 0)
    file.write_bytes(whole.replace(b"second", b"forged"))
    assert ask(file, "l", "second") == ("second", 1)
    file.write_bytes(b"\xff\xfe not text\n" + whole)
    assert ask(file, "l", "") == ("second", 0)


def test_a_file_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in its place: the value is made every time. A file that has grown too large begins anew."""
    (tmp_path / "kept.jsonl").mkdir()
    assert ask(tmp_path / "kept.jsonl", "k", VALUE) == (VALUE, 1)
    assert ask(tmp_path / "kept.jsonl", "k", VALUE) == (VALUE, 1)
    ask(tmp_path / "other.jsonl", "k", VALUE)
    monkeypatch.setattr(kept_values, "MOST", 10)
    assert ask(tmp_path / "other.jsonl", "k", "small") == ("small", 1)
    assert "ü" not in (tmp_path / "other.jsonl").read_text()


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    """It may be gone the next time."""
    file = tmp_path / "kept.jsonl"
    with pytest.raises(ZeroDivisionError):
        KeptValues(file).of("k", lambda: 1 / 0)
    assert ask(file, "k", 3) == (3, 1)
