"""What a cluster's engine needs beside the cluster: the order of trainings, what travels with a
cell, and how nodes are compared. Without Ray.
"""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from airepair import paths
from airepair.case import Case
from airepair.data.transport import files_of, is_here, read_from
from airepair.engines import node, ray_environment
from airepair.engines.baselines import Baselines, SubjectKey, baseline_files
from airepair.engines.bulletin import Bulletin
from airepair.engines.protocol import Failure
from airepair.engines.ray_environment import check, environment
from airepair.engines.shipping import lay, relocated, stage_code, user_files
from airepair.errors import UsageError
from airepair.records import append
from airepair.runner.cell import CellSpec
from airepair.subjects.user_model.input_spec import ModelSource
from fixtures import engine
from tests import rig
from tests.runner.test_reliability import lines, record

ROOT = Path(__file__).parents[2]


def cell(text: str) -> CellSpec:
    """The spec of a cell."""
    return CellSpec(Case.parse(text), "smoke")


def started(baselines: Baselines) -> list[str]:
    """The subjects whose training starts now."""
    return [f"{key.data}-{key.model}-s{key.seed}" for key, _ in baselines.startable()]


def ends(baselines: Baselines, *names: str) -> None:
    """These trainings have ended."""
    for key in [k for k in baselines.running if f"{k.data}-{k.model}-s{k.seed}" in names]:
        baselines.end(key)


def test_each_subject_is_trained_once_and_seed_0_before_the_others() -> None:
    """Two methods of one subject: one training.

    Seed 0 gives the class pair, so it is made even if no cell is of it.
    """
    baselines = Baselines()
    for text in ("digits-fc-noop-s1", "digits-fc-random-s1", "digits-fc-noop-s2", "digits-cnn-noop-s0"):
        baselines.want(cell(text))
    assert started(baselines) == ["digits-fc-s0", "digits-cnn-s0"]
    assert started(baselines) == []
    ends(baselines, "digits-fc-s0")
    assert started(baselines) == ["digits-fc-s1", "digits-fc-s2"]
    ends(baselines, "digits-fc-s1", "digits-fc-s2", "digits-cnn-s0")
    baselines.want(cell("digits-fc-apricot-s1"))
    assert started(baselines) == []


def test_subjects_that_share_a_twin_are_trained_one_after_the_other() -> None:
    """Faults of one network and seed have one clean twin: two machines must not both train it."""
    baselines = Baselines()
    for text in (
        "digits-fc+imbalanced-noop-s0",
        "digits-fc+backdoor-noop-s0",
        "digits+fog3-fc-noop-s0",
        "digits-cnn-noop-s0",
    ):
        baselines.want(cell(text))
    assert started(baselines) == ["digits-fc+imbalanced-s0", "digits-cnn-s0"]
    ends(baselines, "digits-fc+imbalanced-s0")
    assert started(baselines) == ["digits-fc+backdoor-s0"]
    ends(baselines, "digits-fc+backdoor-s0")
    assert started(baselines) == ["digits+fog3-fc-s0"]


def test_a_subject_comes_with_its_familys_files_and_seed_0s(tmp_path: Path) -> None:
    """Twins and the subject of seed 0 are among them; another network, another seed and
    half-written files are not.
    """
    named = [
        "digits-fc-s1-aa.safetensors",
        "digits-fc+clean-s1-bb.safetensors",
        "digits-fc-s0-cc.safetensors",
        "digits-fc-s0-cc.json",
    ]
    others = [
        "digits-fc-s2-dd.safetensors",
        "digits-cnn-s1-ee.safetensors",
        "mnist-fc-s1-ff.safetensors",
        "digits-fc-s1-aa.safetensors.lock",
    ]
    for name in (*named, *others):
        (tmp_path / name).write_text(name)
    key = SubjectKey.of(cell("digits-fc+imbalanced-noop-s1"))
    assert key is not None
    assert sorted(baseline_files(tmp_path, key)) == sorted(named)


def test_a_users_files_travel_and_the_spec_finds_them_elsewhere(tmp_path: Path) -> None:
    """The model, what lies beside it and is read with it, an early state, and images of a folder
    and an npz file.
    """
    home, away = tmp_path / "home", tmp_path / "away"
    for name in (
        "my.onnx",
        "my.onnx.data",
        "my.toml",
        "other.onnx",
        "old/early.pt",
        "bad/cat/1.png",
        "good.npz",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text('classes = "names.txt"' if name == "my.toml" else name)
    (home / "names.txt").write_text("cat")
    brought = ModelSource(home / "my.onnx", early=home / "old" / "early.pt")
    spec = replace(
        cell("digits-my-noop-s0"), brought=brought, failing=f"folder:{home}/bad", keep=f"npz:{home}/good.npz"
    )
    lay(user_files(spec), away)
    there = relocated(spec, away)
    assert there.brought is not None
    assert there.brought.path.read_text() == "my.onnx"
    assert sorted(p.name for p in there.brought.path.parent.iterdir()) == [
        "my.onnx",
        "my.onnx.data",
        "my.toml",
        "names.txt",
    ]
    assert there.brought.early is not None
    assert there.brought.early.read_text() == "old/early.pt"
    assert (there.failing, there.keep) == (f"folder:{away}/failing/bad", f"npz:{away}/keep/good.npz")
    assert (away / "failing" / "bad" / "cat" / "1.png").exists()
    assert relocated(cell("digits-fc-noop-s0"), away) == cell("digits-fc-noop-s0")


def test_a_shipment_is_fetched_and_written_once_per_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two cells with the same subject, data and files the second fetches nothing; a node with
    data of its own keeps it.
    """
    fetched: list[str] = []
    files = {"subject": {"a.safetensors": b"a"}, "data": {"MNIST/raw/train-images-idx3-ubyte": b"x"}}

    def fetch(digest: str) -> dict[str, bytes]:
        fetched.append(digest)
        return files[digest]

    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path / "nothing"))
    shipment = node.Shipment(cell("mnist-fc-noop-s0").to_json(), fetch, subject="subject", data="data")
    for _ in range(2):
        assert node._received(shipment, tmp_path / "node") == cell("mnist-fc-noop-s0")
    assert fetched == ["subject", "data"]
    assert os.environ["AIREPAIR_DATA"] == str(tmp_path / "nothing")
    with read_from(tmp_path / "node" / "data", "mnist"):
        assert paths.data() == tmp_path / "node" / "data"
    assert paths.data() == tmp_path / "nothing"
    assert (tmp_path / "node" / "cache" / "a.safetensors").read_bytes() == b"a"


def test_a_node_trains_on_the_data_set_that_came_with_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node lacks the data set; it reads the shipped one and leaves its environment as it is."""
    generator, packed = np.random.default_rng(0), BytesIO()
    y = np.arange(800, dtype=np.uint8) % 10
    x = generator.integers(0, 255, (800, 28, 28), dtype=np.uint8)
    np.savez(packed, x_train=x, y_train=y, x_test=x[:200], y_test=y[:200])
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path / "nothing"))
    spec = cell("mnist-fc-noop-s0").to_json()
    ended = node.train(node.Shipment(spec, lambda _: {}), tmp_path / "node")
    assert isinstance(ended, Failure)
    assert (ended.status, ended.reason.partition(":")[0]) == ("skipped", "mnist not found")
    files = {"mnist.npz": packed.getvalue()}
    made = node.train(node.Shipment(spec, lambda _: files, data="data"), tmp_path / "node")
    assert not isinstance(made, Failure), made
    assert any(name.startswith("mnist-fc-s0-") and name.endswith(".safetensors") for name in made)
    assert os.environ["AIREPAIR_DATA"] == str(tmp_path / "nothing")


def test_of_an_official_data_set_its_own_files_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the layout in which they lie here; nothing of a data set that is not here, or of one in a
    package.
    """
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path))
    assert files_of("mnist") == files_of("digits") == {}
    assert (is_here("mnist"), is_here("digits+fog3")) == (False, True)
    (tmp_path / "mnist.npz").write_bytes(b"arrays")
    (tmp_path / "private.txt").write_text("no")
    assert files_of("mnist+fog3") == {"mnist.npz": b"arrays"}
    assert is_here("mnist")
    with read_from(tmp_path / "node", "mnist"):
        assert paths.data() == tmp_path


def test_own_code_is_staged_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module brings the Python files beside it, a package all of its own; what is not found is named."""
    home, away = tmp_path / "home", tmp_path / "away"
    for name in (
        "mine.py",
        "beside.py",
        "notes.txt",
        "lab/__init__.py",
        "lab/sub/deep.py",
        "lab/table.csv",
        "nets/net.py",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("")
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    brought = replace(
        cell("digits-my-noop-s0"), brought=ModelSource(Path("my.pt"), net_arch="nets/net.py:Net")
    )
    stage_code(away, [cell("digits-fc-mine:Mine+lab.sub.deep:Deep-s0"), brought, cell("digits-fc-noop-s0")])
    found = {
        p.relative_to(away).as_posix() for p in away.rglob("*") if p.is_file() and "airepair" not in p.parts
    }
    assert found == {
        "mine.py",
        "beside.py",
        "lab/__init__.py",
        "lab/sub/deep.py",
        "lab/table.csv",
        "nets/net.py",
    }
    assert (away / "airepair" / "settings.toml").exists()
    with pytest.raises(UsageError, match=r"the code of 'nowhere' is not found here"):
        stage_code(tmp_path / "again", [cell("digits-fc-nowhere:X-s0")])


def test_a_node_s_differences_are_named() -> None:
    """Versions that numbers depend on and plug-ins; pytest's are of no matter there."""
    ours = node.facts()
    assert {"airepair", "python", "torch", "numpy"} <= ours.keys()
    assert not [name for name in ours if name.startswith("pytest")]
    assert node.different(ours, ours) == ""
    theirs = {**ours, "torch": "1.0", "plug-in mine": "2"}
    assert (
        node.different(ours, theirs)
        == f"plug-in mine 2 (here not installed), torch 1.0 (here {ours['torch']})"
    )


def test_the_bulletin_keeps_the_newest_report_of_each_attempt() -> None:
    """Scores of an attempt that was lost with its node are not those of the next; what was heard
    once is not news again.
    """
    bulletin = Bulletin()
    bulletin.put("a", {"node": "n1", "attempt": 1})
    bulletin.put("a", {"before": 1})
    assert bulletin.changed() == {"a": {"node": "n1", "attempt": 1, "before": 1}}
    assert bulletin.changed() == {}
    bulletin.put("a", {"node": "n2", "attempt": 2})
    assert bulletin.changed() == {"a": {"node": "n2", "attempt": 2}}
    bulletin.put("b", {"node": "n1", "attempt": 1})
    bulletin.forget("b")
    assert bulletin.changed() == {}


def test_an_address_is_checked_before_ray_is_asked() -> None:
    """One that is none, and one where nobody listens, are named with what is accepted; Ray itself
    needs minutes.
    """
    with pytest.raises(UsageError, match=r"--ray-address 'head' is no address; accepted: HOST:PORT"):
        check("head")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UsageError, match=r"nobody listens there \(ConnectionRefusedError"):
            check(free)
        listener.listen()
        check(free)


def test_a_cluster_of_this_machine_has_a_token_and_the_loopback_interface() -> None:
    """What the user has set stands; a cluster elsewhere is left as its owner made it."""
    own = environment(None, {})
    assert (own["RAY_AUTH_MODE"], own["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]) == ("token", "0")
    assert len(own["RAY_AUTH_TOKEN"]) == 64
    assert environment(None, {})["RAY_AUTH_TOKEN"] != own["RAY_AUTH_TOKEN"]
    assert "RAY_AUTH_MODE" not in environment(None, {"RAY_AUTH_MODE": "disabled"})
    assert not [name for name in environment("head:6379", {}) if "AUTH" in name or "CLUSTER" in name]


def test_without_ray_everything_else_loads_and_the_option_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The suite's plugins and what runs on a node import no Ray; `--engine ray` is one line."""
    code = (
        "import sys; sys.modules['ray'] = None; import airepair.engines.node, fixtures.engine, "
        "fixtures.afar, reports.reporter"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    monkeypatch.setattr(ray_environment, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"Ray is not installed; accepted: pip install 'airepair\[ray\]', or --engine local"
    ):
        check(None)


def test_the_number_of_a_card_means_nothing_on_a_cluster() -> None:
    """Each cell there sees one card: the option is refused before the cluster is asked."""
    options = {"engine": "ray", "device": "cuda:1", "ray_address": None, "ray_wait": 1.0}
    given = {f"airepair_{name}": value for name, value in options.items()}
    config = SimpleNamespace(getoption=lambda name: given[name])
    with pytest.raises(pytest.UsageError, match=r"--device cuda:1 .*accepted: --device cuda$"):
        engine.pytest_configure(config)  # type: ignore[arg-type]


def test_cells_that_stand_and_cells_that_run_follow_each_other(tmp_path: Path) -> None:
    """--engine ray --resume: the tests of cells whose records stand are skipped before and between
    those that run, and each leaves its fixtures as the next one needs them.
    """
    rig.lay_elsewhere(tmp_path)
    for seed in (0, 2):
        append(tmp_path / "out" / "records.jsonl", record(seed))
    found = rig.run(tmp_path, "--engine", "ray", "--out", "out", "--seeds", "0,1,2,3", "--resume")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 passed, 2 skipped" in found.stdout
    assert lines(tmp_path / "out") == {rig.key(seed): 1 for seed in range(4)}
