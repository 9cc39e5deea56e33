"""External tools: manifests, environments of their own, child processes with limits, and the tool
as a method.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.cli.main import main
from airepair.errors import OutOfTime, Unavailable, Unsupported, UsageError
from airepair.external import environment, exchange, layer_list, manifest, method, process
from airepair.methods import METHODS, build
from airepair.testing import toy
from airepair.testing.contract import check_method
from airepair.testing.trial import attempt

# A tool without a framework: it nudges the last bias and says what a tool may say.
TOOL = """
import json, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file

job = Path(sys.argv[1])
settings = json.loads((job / "job.json").read_text())
state = load_file(job / "model.safetensors")
print("hello from the tool", flush=True)
print(json.dumps({"progress": ["nudging", 1, 1, 0.5]}), flush=True)
name = [k for k in state if k.endswith("bias")][-1]
state[name] = state[name] + settings["options"]["by"]
save_file(state, job / "result.safetensors")
(job / "result.json").write_text(json.dumps({"backward": 7, "forward": 3, "notes": ["nudged"]}))
"""
MANIFEST = """
name = "nudge"
about = "Nudges a bias."
paper = "made for this test"
model = "layers"
command = ["{python}", "{folder}/repair.py", "{job}", "{by}"]
python = "PYTHON"
inherit = true
timeout = 60
passes = [1]
[ablations.less]
by = 0.4
[options.by]
default = 0.5
help = "how far"
low = 0.0
high = 2.0
""".replace("PYTHON", f"{sys.version_info.major}.{sys.version_info.minor}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool's folder, found through AIREPAIR_TOOLS; environments and logs stay in the test's folder."""
    made = tmp_path / "tools" / "nudge"
    made.mkdir(parents=True)
    (made / "tool.toml").write_text(MANIFEST)
    (made / "repair.py").write_text(TOOL)
    monkeypatch.setenv("AIREPAIR_TOOLS", str(made.parent))
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path / "cache" / "baselines"))
    return made


def test_a_tool_without_its_environment_says_how_to_get_it(folder: Path):
    """Unavailable, with the command: a skip."""
    with pytest.raises(Unavailable, match=r"^environment missing: airepair env create nudge$"):
        build("tool:nudge", {}).repair(toy.task())


def test_the_pipeline_files_a_missing_environment_as_skipped(folder: Path):
    """The record has the status and the reason."""
    from airepair.case import Case
    from airepair.testing.cells import prepare, run

    ready = prepare(Case("toy", "mlp", "tool:nudge", 0), toy.subject(), build("tool:nudge", {}))
    record = run(ready).record
    assert (record.status, record.reason) == ("skipped", "environment missing: airepair env create nudge")


def test_a_tool_is_a_method(folder: Path, capsys: pytest.CaptureFixture[str]):
    """From the manifest to repaired weights: environment, options, progress, log, counted images,
    notes, and the whole contract.
    """
    assert main(["env", "create", "nudge"]) == 0
    assert "--method tool:nudge" in capsys.readouterr().out
    task = toy.task()
    trial = attempt(build("tool:nudge", {"by": "1.0"}), task)
    moved = trial.module.state_dict()["4.bias"] - task.module.state_dict()["4.bias"]
    assert torch.allclose(moved, torch.ones(4))
    assert trial.diary.progress == [("nudging", 1, 1, 0.5)]
    assert trial.task.meter.backward == 7
    assert trial.diary.notes[1:] == ["nudged"]
    log = Path(trial.diary.notes[0].removeprefix("the tool's log: "))
    assert log.read_text().startswith("hello from the tool")
    check_method(METHODS.get("tool:nudge"))


def test_an_environment_is_built_once_and_named_after_its_content(folder: Path):
    """The second call finds it; another requirement is another folder; what was resolved is kept."""
    first = environment.create(manifest.find("nudge"), say=lambda _: None)
    stamp = (first.folder / environment.DONE).stat().st_mtime_ns
    said: list[str] = []
    environment.create(manifest.find("nudge"), say=said.append)
    assert said == [f"{first.folder} is complete"]
    assert (first.folder / environment.DONE).stat().st_mtime_ns == stamp
    other = replace(manifest.find("nudge"), requirements=("numpy<3",))
    assert environment.of(other).folder != first.folder
    assert json.loads((first.folder / environment.DONE).read_text())["tool"] == "nudge"


def test_a_half_built_environment_is_not_taken_for_a_whole_one(folder: Path):
    """Without the mark that is written last it is missing, and it is built anew."""
    made = environment.of(manifest.find("nudge"))
    (made.folder / "bin").mkdir(parents=True)
    made.python.write_text("")
    assert not made.ready
    assert environment.create(manifest.find("nudge"), say=lambda _: None).ready


def test_a_failing_installation_leaves_nothing_and_says_why(folder: Path):
    """One line with the installer's last words."""
    bad = replace(manifest.find("nudge"), requirements=(str(folder / "no-such-wheel-1.0-py3-none-any.whl"),))
    with pytest.raises(Unavailable, match="ended with exit code"):
        environment.create(bad, say=lambda _: None)
    assert not environment.of(bad).folder.exists()


def test_which_program_builds_an_environment(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """uv where it is, virtualenv or venv otherwise, conda or mamba where the manifest asks; a clear
    line where there is none.
    """
    plain = environment.of(replace(manifest.find("nudge"), requirements=("numpy",)))
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}" if name == "uv" else None)
    assert [words[0] for words in environment.steps(plain)] == ["/opt/uv", "/opt/uv"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert environment.steps(plain)[0][:2] == [sys.executable, "-m"]
    assert environment.steps(plain)[1][1:4] == ["-m", "pip", "install"]
    conda = environment.of(replace(plain.manifest, manager="conda"))
    with pytest.raises(Unavailable, match="install conda, mamba or micromamba"):
        environment.steps(conda)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}" if name == "mamba" else None)
    assert environment.steps(conda)[0][:2] == ["mamba", "create"]


def test_a_lock_file_is_what_is_installed(folder: Path):
    """`airepair env lock` writes it; it stands in for the requirements, and its content names the
    environment.
    """
    wanted = replace(manifest.find("nudge"), requirements=("numpy",))
    before = environment.of(wanted).folder
    (folder / environment.LOCK).write_text("# resolved\nnumpy==2.0.0\n")
    assert environment.of(wanted).folder != before
    assert environment.steps(environment.of(wanted))[-1][-1] == "numpy==2.0.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("paper =", "papre ="), r"tool.toml: papre is not a known field \(did you mean 'paper'\?\)"),
        (('name = "nudge"', ""), "name is missing; accepted: text in quotes"),
        (("{by}", "{buy}"), "unknown placeholder"),
        (('"layers"', '"pickle"'), "accepted: torchscript, layers"),
        (("timeout = 60", "timeout = 0"), "timeout is 0; accepted: a number above 0"),
        (("timeout = 60", 'timeout = "60"'), "timeout is '60'; accepted: a number above 0"),
        (("timeout = 60", "timeout = true"), "timeout is True; accepted: a number above 0"),
        (
            ('command = ["{python}", "{folder}/repair.py", "{job}", "{by}"]', 'command = "python repair.py"'),
            "accepted: a list of text in quotes",
        ),
        (('"{by}"]', '"{"]'), "command word '{'"),
        (('python = "', "python = 3.10 # "), "python is 3.1; accepted: text in quotes"),
        (("inherit = true", "inherit = 1"), "inherit is 1; accepted: true or false"),
        (("[options.by]", "[options.seed]"), "option 'seed'; accepted"),
        (("[options.by]", "[options]"), r"options\.default is .*accepted: a table"),
        (("[options.by]", "[options.by"), "cannot be read: .*accepted: the manifest of a tool"),
    ],
)
def test_a_bad_manifest_is_refused_in_one_line(folder: Path, change: tuple[str, str], said: str):
    """The file, the entry and what would be accepted."""
    (folder / "tool.toml").write_text(MANIFEST.replace(*change))
    with pytest.raises(UsageError, match=said):
        manifest.find("nudge")


def test_a_broken_manifest_is_reported_and_the_other_tools_are_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    """By `env list` and by `list methods`, where the sound one stands with its needs."""
    torn = folder.parent / "torn"
    torn.mkdir()
    (torn / "tool.toml").write_text("name = ")
    for words in (["env", "list"], ["list", "methods"]):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert "nudge" in out
        assert "torn/tool.toml cannot be read" in err
    assert "tool:nudge" in out
    assert "needs: its environment: airepair env create nudge" in out


def test_an_unknown_tool_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Exit code 2 and the names of what there is."""
    assert main(["env", "create", "nugde"]) == 2
    assert "did you mean 'nudge'?" in capsys.readouterr().err


def _run(code: str, tmp_path: Path, **limits: float) -> list[str]:
    heard: list[str] = []
    options = {"seconds": 20.0, **limits}
    process.run(
        [sys.executable, "-c", code], tmp_path / "log.txt", cwd=tmp_path, heard=heard.append, **options
    )
    return heard


def test_a_child_that_is_late_is_ended_with_all_that_it_started(tmp_path: Path):
    """OutOfTime, also for a silent child, and its grandchild is gone."""
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, "
        "flush=True); time.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(OutOfTime, match=r"limit of 1\.5 s"):
        _run(code, tmp_path, seconds=1.5)
    assert time.monotonic() - start < 15
    pid = int((tmp_path / "log.txt").read_text())
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the grandchild lives on")


def test_a_child_that_leaves_a_process_behind_ends_when_it_ends(tmp_path: Path):
    """The grandchild holds the pipe open for a minute; nobody waits for it."""
    start = time.monotonic()
    heard = _run(
        "import subprocess; subprocess.Popen(['sleep', '60']); print('done', flush=True)",
        tmp_path,
        seconds=50,
    )
    assert heard == ["done\n"]
    assert time.monotonic() - start < 20


def test_a_failing_child_shows_its_last_line_and_the_log(tmp_path: Path):
    """The exit code, the last line, and where the rest is."""
    with pytest.raises(RuntimeError, match=r"exit code 3: the reason; log: .*log.txt"):
        _run("import sys; print('before'); print('the reason'); sys.exit(3)", tmp_path)
    assert (tmp_path / "log.txt").read_text().splitlines() == ["before", "the reason"]


def test_a_child_that_takes_too_much_memory_fails_as_such(tmp_path: Path):
    """The address space ends where the manifest says."""
    with pytest.raises(MemoryError):
        _run("x = bytearray(2**31)", tmp_path, memory_gb=1.0)


def test_the_harness_limit_acts_in_the_child_too(tmp_path: Path):
    """What the listener raises ends the child and passes on."""

    def stop(line: str) -> None:
        raise OutOfTime("the cell's limit")

    start = time.monotonic()
    with pytest.raises(OutOfTime, match="the cell's limit"):
        process.run(
            [sys.executable, "-c", "import time; print('one', flush=True); time.sleep(60)"],
            tmp_path / "log.txt",
            seconds=50,
            cwd=tmp_path,
            heard=stop,
        )
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ('{"progress": ["a", 1, 2, 0.5]}', [("a", 1, 2, 0.5)]),
        ('{"progress": ["a", 1]}', []),
        ('{"progress": nonsense', []),
        ("plain text", []),
    ],
)
def test_only_a_well_formed_progress_line_is_progress(line: str, reported: list[tuple[str, int, int, float]]):
    """Other output is for the log; nothing a tool prints can break the cell."""
    heard: list[tuple[str, int, int, float]] = []
    method.pass_on(line, replace(toy.task(), progress=lambda *p: heard.append(p)))
    assert heard == reported


def test_a_result_that_does_not_fit_is_refused(tmp_path: Path):
    """Missing, of another shape, or not finite: RuntimeError, and the module is as it was."""
    from safetensors.torch import save_file

    task = toy.task()
    with pytest.raises(RuntimeError, match="wrote no result"):
        exchange.read(tmp_path, task)
    state = {k: v.clone() for k, v in task.module.state_dict().items()}
    save_file({**state, "4.bias": torch.zeros(9)}, tmp_path / "result.safetensors")
    with pytest.raises(RuntimeError, match=r"do not fit the module: \['4.bias'\]"):
        exchange.read(tmp_path, task)
    save_file({**state, "4.bias": torch.full((4,), float("nan"))}, tmp_path / "result.safetensors")
    with pytest.raises(RuntimeError, match="not finite"):
        exchange.read(tmp_path, task)
    assert all(torch.equal(v, state[k]) for k, v in task.module.state_dict().items())


@pytest.mark.parametrize(
    "said", ["{", "[1]", '{"backward": "many"}', '{"backward": -1}', '{"backward": 1, "notes": "one"}']
)
def test_a_report_that_is_none_is_refused(tmp_path: Path, said: str):
    """RuntimeError that says what is accepted, before the module is touched."""
    from safetensors.torch import save_file

    task = toy.task()
    state = {k: v.clone() for k, v in task.module.state_dict().items()}
    save_file({**state, "4.bias": state["4.bias"] + 1}, tmp_path / "result.safetensors")
    (tmp_path / "result.json").write_text(said)
    with pytest.raises(RuntimeError, match=r"result\.json"):
        exchange.read(tmp_path, task)
    assert all(torch.equal(v, state[k]) for k, v in task.module.state_dict().items())


BROKEN_TOOLS = {
    "hangs": (
        "import time; print('started', flush=True); time.sleep(60)",
        "timeout",
        "the tool's limit of 3 s passed",
    ),
    "dies": (
        "import os; print('last words', flush=True); os.kill(os.getpid(), 11)",
        "failed",
        "signal 11: last words",
    ),
    "silent": ("", "failed", "the tool wrote no result.safetensors"),
    "garbage": (
        "(job / 'result.safetensors').write_bytes(b'\\x00' * 64)",
        "failed",
        "result.safetensors cannot be read",
    ),
    "nan": (
        "state['4.bias'] = state['4.bias'] * float('nan'); save_file(state, job / 'result.safetensors')",
        "failed",
        "not finite",
    ),
    "noise": ("sys.stdout.buffer.write(bytes(range(256)) * 4000); sys.exit(3)", "failed", "exit code 3"),
}


@pytest.mark.parametrize("kind", BROKEN_TOOLS)
def test_a_tool_that_fails_is_a_record_with_its_reason(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """Hanging, dying, writing garbage, NaN or nothing: the cell ends with a status, the record says
    where the log is.
    """
    from airepair.case import Case
    from airepair.testing.cells import prepare, run

    code, status, reason = BROKEN_TOOLS[kind]
    head, _, _ = TOOL.partition("print(")
    (folder / "repair.py").write_text(head + code)
    (folder / "tool.toml").write_text(
        MANIFEST.replace("timeout = 60", "timeout = 3" if kind == "hangs" else "timeout = 60")
    )
    monkeypatch.setattr(
        environment.Environment, "require", lambda self: type("Here", (), {"python": sys.executable})
    )
    outcome = run(prepare(Case("toy", "mlp", "tool:nudge", 0), toy.subject(), build("tool:nudge", {})))
    record = outcome.record
    assert record.status == status
    assert reason in record.reason
    (name,) = outcome.logs
    assert f"the tool's log: tools/{name} in the folder of the cell" in record.notes


CONVERTED_TOOL = """
import json, shutil, sys
from pathlib import Path
import h5py

job = Path(sys.argv[1])
settings = json.loads((job / "job.json").read_text())
shutil.copy(job / "model.h5", job / "result.h5")
with h5py.File(job / "result.h5", "r+") as file:
    biases = []
    def look(name, item):
        if name.endswith("bias") and item.shape == (4,):
            biases.append(name)
    file.visititems(look)
    (name,) = biases
    file[name][...] += settings["options"]["by"]
"""


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_tool_that_reads_and_writes_keras_files_gets_and_gives_them(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """The module is converted for it and its file converted back: the moved bias is in the logits, the
    checks of both conversions are billed as forward images; a missing file is said by its name.
    """
    pytest.importorskip("h5py")
    (folder / "repair.py").write_text(CONVERTED_TOOL)
    (folder / "tool.toml").write_text(
        MANIFEST.replace('model = "layers"', 'model = "keras-h5"\nresult = "keras-h5"')
    )
    monkeypatch.setattr(
        environment.Environment, "require", lambda self: type("Here", (), {"python": sys.executable})
    )
    trial = attempt(build("tool:nudge", {"by": "1.0"}), toy.task(kind))
    moved = trial.logits - trial.start.eval()(trial.task.validation.images())
    assert torch.allclose(moved, torch.ones_like(moved), atol=1e-4)
    assert trial.task.meter.forward > 0
    check_method(METHODS.get("tool:nudge"), architecture=kind)
    (folder / "repair.py").write_text("")
    with pytest.raises(RuntimeError, match=r"wrote no result\.h5"):
        attempt(build("tool:nudge", {}), toy.task(kind))


def test_layers_describe_a_plain_sequence_and_nothing_else():
    """Names are those of the state_dict; anything else is Unsupported, by name."""
    found = layer_list.describe(
        nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), nn.Flatten(), nn.Linear(8, 4, bias=False))
    )
    assert [(d["kind"], d["name"], d["bias"]) for d in found] == [
        ("Conv2d", "0.0", True),
        ("Flatten", "1", False),
        ("Linear", "2", False),
    ]
    assert found[0]["kernel_size"] == [3, 3]
    with pytest.raises(Unsupported, match="Transformer"):
        layer_list.describe(nn.Sequential(nn.TransformerEncoderLayer(8, 2)))


def test_torchscript_keeps_the_names_and_the_answers(tmp_path: Path):
    """A torch tool can train the module without its classes, and without the harness's hooks."""
    task = toy.task("cnn")
    task.module.register_forward_pre_hook(task.meter)
    exchange.write(tmp_path, task, "torchscript", {"eps": 0.1})
    loaded = torch.jit.load(str(tmp_path / "model.pt")).eval()
    assert list(loaded.state_dict()) == list(task.module.state_dict())
    assert torch.equal(loaded(task.validation.images()), task.module.eval()(task.validation.images()))
    assert json.loads((tmp_path / "job.json").read_text())["options"] == {"eps": 0.1}
