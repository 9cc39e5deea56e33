"""Fingerprints: what must be equal for two records to be of the same experiment, and how a
difference is named.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.host import source_code
from airepair.host.source_code import source_digest
from airepair.methods import METHODS, build
from airepair.records import Record, resumed
from airepair.records.fingerprint import PARTS, differences, moved_sources, of, of_cell, unknown
from tests.read_sources import forget_sources

CONDITIONS = {
    "profile": "smoke",
    "benchmark_version": 1,
    "arithmetic": "native",
    "image_limit": 500,
    "column_budget": 107_059,
    "device_kind": "cpu",
    "pgd": False,
    "audit": False,
    "file": {"layout": "NCHW"},
}


def cell(method: str = "apricot", **options: object) -> dict[str, object]:
    """The fingerprint of a cell with these options."""
    built = build(method, options)
    return of_cell(
        built,
        given=options,
        data={"test": "t" * 64, "split_version": "1"},
        weights="w" * 64,
        conditions=CONDITIONS,
    )


def test_a_fingerprint_has_every_part_and_survives_json() -> None:
    """Written and read back it is the same: no difference, nothing unknown."""
    first = cell(rate=0.1)
    again = json.loads(json.dumps(first))
    assert again == first
    assert set(PARTS) <= set(first)
    assert differences(first, again) == []
    assert unknown(first, again) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"source": "0" * 64}, "apricot: source changed"),
        ({"weights": "v" * 64}, "weights of the subject: was wwwwwwwwwwww, is vvvvvvvvvvvv"),
        ({"data": {"test": "u" * 64}}, "data of test: was tttttttttttt, is uuuuuuuuuuuu"),
        ({"profile": "paper"}, "profile: was smoke, is paper"),
        ({"benchmark_version": 2}, "benchmark version: was 1, is 2"),
        ({"arithmetic": "portable"}, "arithmetic: was native, is portable"),
        ({"image_limit": "none"}, "limit of training images: was 500, is none"),
        ({"column_budget": 1200}, "apricot: column budget changed: was 107,059 images, is 1,200"),
        ({"device_kind": "cuda"}, "device: was cpu, is cuda"),
        ({"pgd": True}, "attack (--pgd): was False, is True"),
        ({"audit": True}, "audit (--audit): was False, is True"),
        ({"file": {"layout": "NHWC"}}, "layout of the model file: was NCHW, is NHWC"),
    ],
)
def test_each_difference_is_a_line_with_both_values(change: dict[str, object], line: str) -> None:
    """Of digests the first twelve digits."""
    assert differences(cell(), {**cell(), **change}) == [line]


def test_an_option_is_named_with_its_method() -> None:
    """Only the one that differs."""
    assert differences(cell(rate=0.1), cell(rate=0.2)) == ["apricot.rate: was 0.1, is 0.2"]


def test_an_option_that_only_one_of_two_versions_knows_is_a_difference_if_it_was_given() -> None:
    """Its default is what the other version did, as far as anybody can tell; a value that was given
    is not.
    """
    old, new = cell(rate=0.1), cell(rate=0.1)
    new["options"] = {**new["options"], "later": 1}  # type: ignore[dict-item]
    assert differences(old, new) == []
    new["given"] = {"later": 1}
    assert differences(old, new) == ["apricot.later: was not there, is 1"]
    assert differences(new, old) == ["apricot.later: was 1, is not there"]


def test_what_an_older_record_lacks_is_unknown_not_different() -> None:
    """The parts of an older record come from its other fields; version 1 is told from its splits."""
    old = Record(
        Case("digits", "cnn", "apricot", 0),
        "repaired",
        options={"rate": {"value": 0.1, "given": True}},
        subject={"weights": "w" * 64, "data": {"split_version": "1", "test": "t" * 64}},
        provenance={"profile": "smoke"},
    )
    new = {k: v for k, v in {**cell(rate=0.1), "options": {"rate": 0.1}}.items() if k != "column_budget"}
    assert differences(of(old), new) == []
    asked = ["device", "attack (--pgd)", "audit (--audit)", "reading of the model file"]
    assert unknown(of(old), new) == ["arithmetic", "limit of training images", *asked, "source"]
    assert differences(of(old), {**new, "benchmark_version": 2}) == ["benchmark version: was 1, is 2"]
    assert differences(of(Record(old.case, "crashed", provenance={})), new) == []


def test_resuming_keeps_a_finished_record_of_the_same_fingerprint_only() -> None:
    """Otherwise it says what has changed; a cell that did not finish simply runs again."""
    wanted = cell(rate=0.1)
    done = Record(Case("digits", "cnn", "apricot", 0), "repaired", fingerprint=wanted)
    assert resumed([done], done.key, wanted) == (done, [])
    assert resumed([done], done.key, {**wanted, "source": "new"}) == (None, ["apricot: source changed"])
    assert resumed([done], "digits-fc-apricot-s0", wanted) == (None, [])
    assert resumed([dataclasses.replace(done, status="timeout")], done.key, wanted) == (None, [])
    both = [dataclasses.replace(done, fingerprint={**wanted, "weights": "other"}), done]
    assert resumed(both, done.key, wanted) == (done, [])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a method with a part of its own, and one that it does not import."""
    folder = tmp_path / "outside"
    folder.mkdir()
    method = "from outside.part import X\nfrom . import deep\nclass Mine:\n    pass\n"
    for name, text in {
        "__init__": "",
        "mine": method,
        "part": "X = 1\n",
        "deep": "",
        "other": "Y = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def digest_of(module: str) -> str:
    """The digest of a method whose class stands in that module, its files read anew."""
    forget_sources()
    return source_digest(type("Mine", (), {"__module__": module})())


@pytest.mark.parametrize(
    ("name", "changes"),
    [("mine", True), ("part", True), ("deep", True), ("__init__", True), ("other", False)],
)
def test_the_source_is_the_methods_module_and_what_it_imports_of_its_package(
    package: Path, name: str, changes: bool
) -> None:
    """A part that it does not import is not its source; line ends are nothing."""
    first = digest_of("outside.mine")
    file = package / f"{name}.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert digest_of("outside.mine") == first
    file.write_text(file.read_text() + "\nZ = 2\n")
    assert (digest_of("outside.mine") != first) is changes
    assert "outside" not in sys.modules, "sources are parsed, not imported"


def test_a_package_without_init_has_a_source_too(package: Path) -> None:
    """Its modules count by their content, and so do those that they import of it."""
    (package / "__init__.py").unlink()
    found = [digest_of("outside.mine")]
    for name in ("mine", "part", "deep", "other"):
        (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "Z = 2\n")
        found.append(digest_of("outside.mine"))
    assert len(set(found[:4])) == 4
    assert found[4] == found[3]


def test_what_moves_or_is_explained_is_the_same_source(package: Path) -> None:
    """Docstrings, comments, line breaks and the names of modules are no code."""
    first = digest_of("outside.mine")
    (package / "room").mkdir()
    (package / "room" / "__init__.py").write_text('"""A room."""\n')
    (package / "part.py").rename(package / "room" / "piece.py")
    moved = (
        "from outside.room.piece import X  # moved\nfrom . import (\n    deep,\n)\n\n\nclass Mine:\n "
        '   """Mine."""\n\n    pass\n'
    )
    (package / "mine.py").write_text(moved)
    assert digest_of("outside.mine") == first


def test_an_import_of_something_else_is_another_source(package: Path) -> None:
    """Also where both are imported anyway, under one name."""
    (package / "other.py").write_text("X = 2\n")
    texts = [
        "from outside.part import X\nfrom outside.other import X as Y\n",
        "from outside.other import X\nfrom outside.part import X as Y\n",
    ]
    digests = set()
    for text in texts:
        (package / "mine.py").write_text(f"{text}class Mine:\n    pass\n")
        digests.add(digest_of("outside.mine"))
    assert len(digests) == 2


def test_a_record_from_before_the_move_has_the_source_of_the_same_code() -> None:
    """Its digest stands in moved_sources.toml, whose values are digests of today's kind."""
    old, new = next(iter(moved_sources().items()))
    before = Record(
        Case("digits", "cnn", "apricot", 0), "repaired", fingerprint={**cell(rate=0.1), "source": old}
    )
    assert resumed([before], before.key, {**cell(rate=0.1), "source": new}) == (before, [])
    assert resumed([before], before.key, {**cell(rate=0.1), "source": "0" * 64}) == (
        None,
        ["apricot: source changed"],
    )
    assert {len(v) for v in moved_sources().values()} == {64}


def test_methods_have_different_sources_and_combinations_have_those_of_their_steps() -> None:
    """Of `best` those of its candidates."""
    names = ("noop", "finetune", "apricot", "dl2", "apricot+dl2", "best")
    digests = {name: source_digest(build(name, {})) for name in names}
    assert len(set(digests.values())) == len(names)
    fewer = source_digest(build("best", {"candidates": "apricot,dl2"}))
    assert fewer != digests["best"]


def test_what_the_packages_front_door_imports_is_no_methods_source() -> None:
    """`from airepair import paths` names the package, whose functions load reports; a table that is
    printed in another way changes no repair.
    """
    assert METHODS.builtin
    for name in METHODS.builtin:
        rooms = {module.split(".")[1] for module in source_code._modules(build(name, {})) if "." in module}
        assert not rooms & {"api", "cli", "report", "runner", "subjects"}, name


def test_a_tools_source_is_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A change of its script is a change of its source."""
    folder = tmp_path / "some_tool"
    folder.mkdir()
    (folder / "tool.toml").write_text(
        'name = "some_tool"\npaper = "none"\ncommand = ["{python}", "{folder}/repair.py"]\n'
    )
    (folder / "repair.py").write_text("pass\n")
    monkeypatch.setenv("AIREPAIR_TOOLS", str(tmp_path))
    first = source_digest(build("tool:some_tool", {}))
    assert source_digest(build("tool:some_tool", {})) == first
    (folder / "repair.py").write_text("raise SystemExit\n")
    assert source_digest(build("tool:some_tool", {})) != first
