"""Portable arithmetic: what is set up before the libraries load, what the canary says of it, and
functions that are exact everywhere.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from airepair.cli.main import main
from airepair.host.arithmetic import canary, exact, setup
from airepair.methods.apricot.cache import key_of as submodels_key
from airepair.records import read
from airepair.runner.provenance import provenance
from airepair.settings import wants_portable
from airepair.subjects import baseline
from airepair.subjects.recipes import training_of
from airepair.suite.plugin import MODULES
from airepair.testing import toy
from fixtures import arithmetic as plugin

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
COMMANDS = tuple(f"airepair.cli.{name}" for name in ("repair.arguments", "train", "tune", "cell"))
REPAIR = ["repair", "--method", "noop", "--dataset", "digits", "--net_arch", "fc"]


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As in a process that has loaded neither torch nor numpy, on an x86-64 machine, without any of
    the variables.
    """
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in (*setup.SETTINGS, setup.NUMPY_FEATURES):
        monkeypatch.setenv(name, "")  # put back to what it was, whatever the test leaves
        monkeypatch.delenv(name)
    modules = {k: v for k, v in sys.modules.items() if k not in setup.LIBRARIES}
    monkeypatch.setattr(sys, "modules", modules)
    return monkeypatch


def test_the_variables_are_set_before_the_libraries_load(unloaded: pytest.MonkeyPatch):
    """All five, and nothing to say."""
    assert not setup.is_set()
    assert setup.set_up(portable=True) == ""
    assert setup.is_set()


def test_native_sets_nothing_and_takes_back_what_was_inherited(unloaded: pytest.MonkeyPatch):
    """A child of a portable process that is told --native is native."""
    assert setup.set_up(portable=False) == ""
    assert not setup.is_set()
    setup.set_up(portable=True)
    assert setup.set_up(portable=False) == ""
    assert not setup.is_set()


@pytest.mark.parametrize("library", setup.LIBRARIES)
def test_a_library_that_was_there_before_is_named(unloaded: pytest.MonkeyPatch, library: str):
    """In a notebook or beside another plug-in: one line says why numbers are native, and nothing is set."""
    unloaded.setitem(sys.modules, library, ModuleType(library))
    assert setup.set_up(portable=True) == (
        f"native arithmetic: {library} had been imported before the portable kernels could be chosen"
    )
    assert not setup.is_set()


def test_another_processor_family_is_native(unloaded: pytest.MonkeyPatch):
    """Nothing is defined for ARM."""
    unloaded.setattr("platform.machine", lambda: "aarch64")
    assert "defined for x86-64, not for aarch64" in setup.set_up(portable=True)
    assert not setup.is_set()


@pytest.mark.parametrize(
    ("version", "names"), [("2.4.0", "X86_V3 X86_V4"), ("2.3.5", "AVX2 FMA3"), ("1.26.4", "AVX2 FMA3")]
)
def test_numpys_names_follow_its_version(monkeypatch: pytest.MonkeyPatch, version: str, names: str):
    """Groups of instructions since 2.4, single sets before."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    assert setup._numpy_features().startswith(names)


@pytest.mark.parametrize(("words", "kind"), [((), "portable"), (("--native",), "native")])
def test_a_repair_of_digits_is_portable_unless_native_is_asked_for(
    words: tuple[str, ...], kind: str, tmp_path: Path
):
    """In a process of its own: the record and the baseline's key say which, and standard error says
    nothing of it.
    """
    environment = {k: v for k, v in os.environ.items() if k not in setup.settings()} | {
        "AIREPAIR_CACHE": str(tmp_path / "cache")
    }
    done = subprocess.run(
        [sys.executable, "-m", "airepair", *REPAIR, *words, "--out", str(tmp_path / "run")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = read([tmp_path / "run" / "records.jsonl"])[0]
    assert (record.provenance["arithmetic"], record.fingerprint["arithmetic"]) == (kind, kind)
    assert "arithmetic" not in done.stderr


def test_a_command_says_why_it_stays_native(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Where a program that has loaded torch calls it: when the run begins, and not beside the one
    line of an error.
    """
    words = [*REPAIR, "--out", str(tmp_path / "run")]
    assert main([*words, "--device", "gpu"]) == 2
    assert "arithmetic" not in capsys.readouterr().err
    assert main(words) == 0
    assert capsys.readouterr().err.count("native arithmetic: torch and numpy had been imported") == 1
    assert "native arithmetic: torch and numpy" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("datasets", "named", "portable"),
    [
        (["digits"], None, True),
        (["digits+fog3", "Digits"], None, True),
        (["digits", "mnist"], None, False),
        ([], None, False),
        (["digits"], "cpu", False),
        (["mnist"], "smoke", True),
        ([], "digits", True),
    ],
)
def test_a_named_profile_or_the_data_sets_want_portable_arithmetic(
    datasets: list[str], named: str | None, portable: bool
):
    """A named profile decides; without one the data sets do, and no data set is none."""
    assert wants_portable(datasets, named) is portable


def config(
    keyword: str = "", markexpr: str = "", args: tuple[str, ...] = ("benchmarks",), **options: Any
) -> Any:
    """What the plug-in reads of pytest's configuration."""
    known = {"native": False, "device": "cpu", "profile": None, "dataset": [], "model": []} | options
    return SimpleNamespace(
        getoption=lambda name: known[name.removeprefix("airepair_")],
        option=SimpleNamespace(keyword=keyword, markexpr=markexpr),
        args=args,
    )


@pytest.mark.parametrize(
    ("given", "portable"),
    [
        ({}, True),
        ({"native": True}, False),
        ({"profile": "cpu"}, False),
        ({"profile": "digits"}, True),
        ({"dataset": ["digits"]}, True),
        ({"dataset": ["digits,mnist"]}, False),
        ({"keyword": "cnn and dl2"}, True),
        ({"keyword": "cifar100"}, False),
        ({"keyword": "cifar100 or digits"}, True),
        ({"markexpr": "cell(dataset='cifar10')"}, False),
        ({"model": ["resnet18"]}, False),
        ({"model": ["fc"]}, True),
        ({"args": ("benchmarks/test_repair.py::test_repair[mnist-fc-noop-s0]",)}, False),
        ({"device": "auto", "gpus": ["0"]}, False),
        ({"device": "cpu", "gpus": ["0"]}, True),
    ],
    ids=str,
)
def test_a_run_of_digits_is_portable(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], portable: bool):
    """By profile and data set; where cells are picked by -k, by a node id or by model, by whether
    these are cells of other data sets.
    """
    gpus = given.get("gpus", [])
    monkeypatch.setattr(plugin, "gpus_of", lambda config: gpus if given.get("device") != "cpu" else [])
    assert plugin.portable(config(**{k: v for k, v in given.items() if k != "gpus"})) is portable


def test_the_canary_decides_what_a_record_says(monkeypatch: pytest.MonkeyPatch):
    """Portable: asked for, on the CPU, and a known digest. Another digest is native, with one warning."""
    monkeypatch.setattr(canary, "measured", lambda: "f00d")
    monkeypatch.setattr(canary, "PORTABLE", frozenset({"f00d"}))
    monkeypatch.setattr(canary, "is_set", lambda: False)
    assert canary.arithmetic.__wrapped__(CPU) == "native"
    monkeypatch.setattr(canary, "is_set", lambda: True)
    assert canary.arithmetic.__wrapped__(CPU) == "portable"
    assert canary.arithmetic.__wrapped__(torch.device("cuda", 0)) == "native"
    monkeypatch.setattr(canary, "PORTABLE", frozenset({"beef"}))
    canary._warn.cache_clear()
    with pytest.warns(UserWarning, match="digest f00d .* is not a known portable one"):
        assert canary.arithmetic.__wrapped__(CPU) == "native"
    canary._warn.cache_clear()


def test_the_canary_leaves_the_process_as_it_was():
    """Its digest is the same each time, without gradients too; torch's generator and threads stay
    where they are.
    """
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = canary.measured.__wrapped__()
    with torch.no_grad():
        assert canary.measured.__wrapped__() == first
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_records_and_both_caches_know_the_arithmetic(monkeypatch: pytest.MonkeyPatch):
    """Baselines and submodels of the two kinds are two, and a record names its own."""
    keys = []
    data, module = toy.dataset(), toy.architecture("mlp")
    for kind in ("portable", "native"):
        monkeypatch.setattr("airepair.subjects.baseline.arithmetic", lambda _, kind=kind: kind)
        monkeypatch.setattr("airepair.methods.apricot.cache.arithmetic", lambda _, kind=kind: kind)
        monkeypatch.setattr("airepair.runner.provenance.arithmetic", lambda _, kind=kind: kind)
        key = baseline.key_of(module, data, training_of("digits", "fc"), 0)
        assert key["arithmetic"] == kind
        assert provenance(CPU, "smoke", {})["arithmetic"] == kind
        keys.append(submodels_key(module, data.train, [slice(0, 8)], toy.RECIPE, 0, "together"))
    assert keys[0] != keys[1]


def test_the_root_is_correctly_rounded():
    """Of float32 numbers of every size: no neighbour's square is nearer."""
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.random(4000) * 10.0**e for e in (-30, -8, -1, 0, 5, 30)]).astype(np.float32)
    roots = exact.root(torch.from_numpy(x)).numpy()
    assert roots.dtype == np.float32
    np.testing.assert_array_equal(roots, np.sqrt(x))
    value, nearest = Fraction(float(x[7])), Fraction(float(roots[7]))
    assert abs(nearest**2 - value) <= 2 * nearest * Fraction(float(np.spacing(roots[7])))


def test_the_root_has_its_derivative():
    """1 / (2 sqrt(x)): editable training differentiates through it."""
    x = torch.tensor([4.0, 0.25], requires_grad=True)
    (gradient,) = torch.autograd.grad(exact.root(x).sum(), [x])
    assert gradient.tolist() == [0.25, 1.0]


def test_cosine_and_logarithm_are_the_nearest_floats():
    """Against forty digits."""
    with mpmath.workdps(40):
        for x in (0.1, 0.5, 1.0, 2.2, 3.0, math.pi):
            assert exact.cosine(x) == float(mpmath.cos(mpmath.mpf(x)))
            assert exact.logarithm(x) == float(mpmath.log(mpmath.mpf(x)))


def test_rmsprop_is_torchs_up_to_rounding():
    """Ten steps on one quadratic each way; the averages are kept under torch's own name."""
    ends = []
    for kind in (torch.optim.RMSprop, exact.RMSprop):
        w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
        optimizer = kind([w], lr=1e-2)
        for _ in range(10):
            optimizer.zero_grad()
            (w * w).sum().backward()
            optimizer.step()
        ends.append((w.detach(), optimizer.state[w]["square_avg"]))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    torch.testing.assert_close(ends[0][1], ends[1][1])
    assert not torch.equal(ends[1][0], torch.tensor([1.0, -2.0, 0.5]))


@pytest.mark.parametrize("modules", [MODULES, COMMANDS], ids=["the suite", "the commands"])
def test_nothing_loads_numpy_before_the_arithmetic_is_chosen(modules: tuple[str, ...]):
    """In a fresh process the plugins of the suite, and the commands that repair or train, are
    imported without numpy and torch.
    """
    script = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\n"
    script += f"print([m for m in {setup.LIBRARIES!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
