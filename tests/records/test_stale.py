"""What a resumed run keeps: every option either makes a record another one (another case, or another
fingerprint), or cannot change a record, for a reason that stands here.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from airepair.case import Case
from airepair.cli.flags import TABLE, flags_of
from airepair.evaluation.exam import logits_of
from airepair.host.source_code import source_digest
from airepair.methods import build
from airepair.records import FINISHED, Record
from airepair.records.fingerprint import differences, of
from airepair.runner import provenance
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loaded
from airepair.runner.outcome import outcome
from airepair.runner.prepared import prepare
from airepair.runner.provenance import commit, fingerprint
from airepair.runner.repair import repair
from airepair.subjects.user_model.load import bring
from airepair.suite.session import SELECTION
from airepair.testing import toy
from airepair.types import Subject
from fixtures.repair import spec_of
from tests.read_sources import forget_sources
from tests.subjects.test_user_model import CPU, checkpoint, colours, given

__all__ = ["colours"]  # a fixture
CASE = Case("mnist", "cnn", "memit", 0)
# Options that name other cells: a case that they make of CASE.
OTHER_CASE: dict[str, dict[str, Any]] = {
    "--pretrained": {"model": "mine"},
    "--dataset": {"dataset": "digits"},
    "--model": {"model": "fc"},
    "--method": {"method": "dl2"},
    "--seeds": {"seed": 1},
    "--auto": {"method": "memit[tuned]"},
    "--ablations": {"method": "memit[no_ordinary_keys]"},
}
# Options of a run: what is given, and the line that a resumed run prints.
OF_RUN: dict[str, tuple[Any, str]] = {
    "--profile": ("paper", "profile: was cpu, is paper"),
    "--set": ({"": {"margin": "3"}}, "memit.margin: was 0.05, is 3"),
    "--pgd": (True, "attack (--pgd): was False, is True"),
    "--audit": (True, "audit (--audit): was False, is True"),
    "--device": ("cuda", "device: was cpu, is cuda"),
    "--native": (True, "arithmetic: was portable, is native"),
}
# Options of a model file: the words, and the beginning of the line.
OF_FILE: dict[str, tuple[tuple[str, ...], str]] = {
    "--input-range": (("--input-range", "0..255"), "weights of the subject: "),
    "--mean": (("--mean", "0.1", "--std", "1"), "weights of the subject: "),
    "--std": (("--mean", "0", "--std", "0.5"), "weights of the subject: "),
    "--weights": (("--weights", "model_ema"), "weights of the subject: "),
    "--trained-on": (("--trained-on", "0..59"), "data of "),
    "--net_arch": ((), "architecture of the model file: was Net, is Other"),
}
# Options whose effect on reading a file stands in the subject's origin.
IN_ORIGIN: dict[str, tuple[dict[str, Any], str]] = {
    "--layout": ({"feeding": {"layout": {"value": "NHWC"}}}, "layout of the model file: "),
    "--colours": ({"feeding": {"colours": {"value": "bgr"}}}, "colours of the model file: "),
    "--classes": ({"outputs": [1, 0, 2]}, "outputs of the model file: "),
    "--early": ({"early": {"sha256": "e" * 64}}, "early of the model file: "),
}
ELSEWHERE = "an option of a command that files no record"
SPLIT = ("--failing", "--keep")
NONE: dict[str, str] = {
    "--depth": "the file's weights fit one depth, and another is refused",
    "--width": ELSEWHERE,
    "--all": "which files and methods are run, each with a folder of its own",
    "--models": "which files are run, each with a folder of its own",
    "--additional_param": "the same as --set, of a command without --resume",
    "--time-limit": "a repair that reaches it is a timeout, which is not finished and runs again",
    "--seconds": "the same as --time-limit, of a command without --resume",
    "--json": ELSEWHERE,
    "--format": ELSEWHERE,
    "--testonly": ELSEWHERE,
    "--input_logs": ELSEWHERE,
    "--config": "holds other options, which stand here themselves",
    "--out": "where the record goes",
    "--keep-models": "which files lie beside the record",
    "--report": "what is printed",
    "--resume": "which cells run",
    "--rerun": "which cells run",
    "--join": "which cells run",
    "--gpus": "on which GPU a cell runs",
    "--workers-per-gpu": "how many cells run at once; what they share costs seconds only",
    "--plan": "which cells run",
    "--engine": "where a cell runs: tests/runner/test_one_door.py and tests/engines want equal records",
    "--ray-address": "where a cell runs",
    "--ray-wait": "how long a run waits for a node",
    "--isolate": "in which process a cell runs",
    "--isolate-memory": "a cell that reaches it is not finished and runs again",
    "--isolate-gpu-memory": "a cell that reaches it is not finished and runs again",
    "--isolate-output": "how much of a cell's output is kept beside the record",
    "--trust-pickle": "whether a file may be read; what is read is the same",
    "--trust-lambda": "whether a file may be read; what is read is the same",
    "--baseline": "what is compared at the end",
    "--fail-if": "what is compared at the end",
    "--level": "what is compared at the end",
}


def test_every_option_is_classed_once() -> None:
    """A new one fails here until it makes a record another one, or says why it need not."""
    classed = [*OTHER_CASE, *OF_RUN, *OF_FILE, *IN_ORIGIN, *SPLIT, *NONE]
    assert sorted(classed) == sorted(flag.name for flag in TABLE)
    assert all(NONE.values())


def test_what_a_limit_ends_is_not_finished() -> None:
    """The reason of three options above."""
    assert not {"timeout", "out of memory", "crashed"} & set(FINISHED)


@pytest.mark.parametrize("flag", OTHER_CASE)
def test_an_option_that_names_other_cells_makes_another_key(flag: str) -> None:
    """Records are looked for by their key."""
    assert str(dataclasses.replace(CASE, **OTHER_CASE[flag])) != str(CASE)


def spec(flag: str = "", value: Any = None, case: Case = CASE) -> CellSpec:
    """The spec that the suite makes of the options, all others at their defaults."""
    usual = {f"airepair_{f.key}": f.about("bench").get("default") for f in flags_of("bench")}
    usual |= {f"airepair_{f.key}": False for f in flags_of("bench") if f.kind is bool and f.action is None}
    keys = {f.name: f"airepair_{f.key}" for f in flags_of("bench")}
    chosen = SimpleNamespace(brought={}, sets={})
    if flag == "--set":
        chosen.sets = {CASE.method: list(value.items())}
    elif flag:
        usual[keys[flag]] = value
    config: Any = SimpleNamespace(getoption=usual.__getitem__, stash={SELECTION: chosen})
    device = value if flag == "--device" else "cpu"
    return spec_of(config, case, device)


def of_subject(subject: Subject, wanted: CellSpec | None = None) -> dict[str, Any]:
    """The fingerprint of a cell of the subject."""
    wanted = wanted or CellSpec(CASE, "cpu")
    return fingerprint(wanted, Loaded(subject), build(CASE.method, wanted.options), None)


@pytest.mark.parametrize("flag", OF_RUN)
def test_an_option_of_a_run_changes_the_fingerprint(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that the end of the run prints of the cell; without the option nothing differs."""
    value, line = OF_RUN[flag]
    native = flag == "--native"
    monkeypatch.setattr(provenance, "device_name", str)
    monkeypatch.setattr(provenance, "arithmetic", lambda _: "portable")
    before = of_subject(toy.subject(), spec())
    assert differences(before, of_subject(toy.subject(), spec())) == []
    monkeypatch.setattr(provenance, "arithmetic", lambda _: "native" if native else "portable")
    found = of_subject(toy.subject(), spec(flag, value))
    assert line in differences(before, found)


@pytest.mark.parametrize("flag", OF_FILE)
def test_an_option_of_a_model_file_changes_the_fingerprint(
    flag: str, tmp_path: Path, colours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one file, read in two ways."""
    path = checkpoint(tmp_path / "a.pt")
    path.with_suffix(".py").write_text(
        path.with_suffix(".py").read_text() + "\n\nclass Other(Net):\n    pass\n"
    )
    held = torch.load(path, weights_only=True)["state_dict"]
    averaged = {name: 0.9 * value for name, value in held.items()}
    torch.save({"model": held, "model_ema": averaged}, path)
    words, line = OF_FILE[flag]
    usual = () if flag == "--weights" else ("--weights", "model")
    first, second = (
        of_subject(bring(source, colours, profile="none", device=CPU)[0])
        for source in (
            given(path, "--weights", "model"),
            given(path, *usual, *words, net="Other" if flag == "--net_arch" else "Net"),
        )
    )
    assert differences(first, first) == []
    found = differences(first, second)
    assert found
    assert all(text.startswith(line) for text in found)


@pytest.mark.parametrize("flag", IN_ORIGIN)
def test_how_a_model_file_is_read_changes_the_fingerprint(flag: str) -> None:
    """Whatever is no weight of it: layout, colours, order of the outputs, an earlier state."""
    more, line = IN_ORIGIN[flag]
    plain = {"kind": "brought", "feeding": {"input_range": {"value": [0, 1], "from": "default"}}}
    first, second = (
        of_subject(dataclasses.replace(toy.subject(), origin=origin)) for origin in (plain, {**plain, **more})
    )
    (found,) = differences(first, second)
    assert found.startswith(line)
    filed = Record(CASE, "repaired", subject={"origin": {**plain, **more}}, provenance={})
    assert [d for d in differences(of(filed), first) if line in d], "an older record knows it too"


@pytest.mark.parametrize("flag", SPLIT)
def test_images_that_are_given_change_the_fingerprint(flag: str, tmp_path: Path) -> None:
    """They are data."""
    subject = toy.subject()
    x = subject.dataset.validation.images()[:5]
    wrong = (logits_of(subject.module, x).argmax(1) + 1) % len(subject.dataset.classes)
    file = tmp_path / "given.npz"
    np.savez(file, x=(x * 255).byte().squeeze(1).numpy(), y=wrong.numpy())
    wanted = dataclasses.replace(CellSpec(CASE, "cpu"), **{flag[2:]: f"npz:{file}"})
    (found,) = differences(of_subject(subject), of_subject(subject, wanted))
    assert found.startswith(f"data of {flag[2:]}: was not there")


@pytest.mark.parametrize("name", ["pgd", "audit"])
def test_an_older_record_shows_what_was_asked_for(name: str) -> None:
    """By its scores and its notes; of a record without scores nothing is known."""
    scores: dict[str, Mapping[str, float]] = {"pgd": {"pgd_accuracy": 0.4}, "audit": {"accuracy": 0.8}}
    notes = {"pgd": (), "audit": ("audit: 5 operations measured",)}
    plain = Record(CASE, "repaired", before={"accuracy": 0.8}, provenance={})
    asked = dataclasses.replace(plain, before=scores[name], notes=notes[name])
    assert [of(r).get(name) for r in (asked, plain)] == [True, False]
    assert name not in of(dataclasses.replace(plain, before={}))


EDITED = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from airepair.runner.provenance import commit

@dataclass(frozen=True)
class Mine:
    name: ClassVar[str] = "mine"
    category: ClassVar[str] = "control"
    paper: ClassVar[str] = "made for this test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}

    def budget(self, task):
        return 0

    def repair(self, task):
        task.note(f"commits read before: {commit.cache_info().currsize}")
        Path(__file__).write_text(Path(__file__).read_text() + "EDITED = 1\\n")
        return task.module
"""


@pytest.mark.parametrize("edited", ["while its subject is trained", "while it runs"])
def test_a_record_has_the_digest_of_the_code_that_ran(
    edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the file that somebody edits in the meantime; the commit is read before, too."""

    file = tmp_path / "edited_meanwhile.py"
    file.write_text(EDITED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, file.stem, raising=False)
    case = dataclasses.replace(CASE, method=f"{file.stem}:Mine")
    forget_sources()
    ran = source_digest(build(case.method, {}))
    forget_sources()  # as in a process that was not asked before
    commit.cache_clear()
    wanted = spec(case=case)
    if edited == "while its subject is trained":
        file.write_text(EDITED + "EARLIER = 1\n")
    else:
        forget_sources()
    ready = prepare(wanted, Loaded(toy.subject()))
    found = outcome(ready, repair(ready)).record
    assert found.fingerprint["source"] == ran
    assert "commits read before: 1" in found.notes
    forget_sources()
    assert source_digest(build(case.method, {})) != ran
