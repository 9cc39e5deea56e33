"""The commands of README.md, docs/ and examples/: each is read by its parser, and run in a folder
with files of the shape that it names.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airepair.cli.main import main, parser_of
from benchmarks.campaign.chunks import split
from tests.cli.test_papers_example import EXAMPLE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
PROGRAM = re.compile(r"(\w+=\S+ )*(airepair|pytest|python3?|pip|export)\s")
PACKAGES = re.compile(
    r"pip install|python3? -m venv|^export |airepair env create"
)  # these fetch packages, which no test may do
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """The commands in the blocks of a page, without comments and where their output goes, continued
    lines joined.
    """
    text = page.read_text(encoding="utf-8")
    fenced = [block for kind, block in FENCED.findall(text) if kind in ("sh", "")]
    blocks = [*fenced, *re.findall(r"(?:^    \S.*\n)+", FENCED.sub("", text), re.MULTILINE)]
    lines = (
        re.sub(r"\s+(#|> ).*", "", line.strip())
        for block in blocks
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
    )
    return [line for line in lines if PROGRAM.match(line)]


ALL = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


# ---- files of the shape that a command names
# -------------------------------------------------------------------------------------------


def grey(folder: Path) -> None:
    """A small MNIST: handwritten digits of 8 x 8, drawn larger."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = np.pad(np.kron(found.images / 16 * 255, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    y = found.target.astype(np.int64)
    np.savez(
        folder / "mnist.npz", x_train=x[:1200], y_train=y[:1200], x_test=x[1200:1600], y_test=y[1200:1600]
    )


def fitted(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """The module, trained on all images at once."""
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return module.eval()


@cache
def keras_file(name: str) -> Callable[[Path], None]:
    """A Keras file for pixels in 0..255, trained on the small MNIST; the same maker for the same name."""

    def make(folder: Path) -> None:
        pytest.importorskip("mmdnn")
        from airepair.formats.export import export

        grey(folder)
        with np.load(folder / "mnist.npz") as data, torch.random.fork_rng([]):
            torch.manual_seed(0)
            images = torch.from_numpy(data["x_train"][:, None] / 255).float()
            module = fitted(
                nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), images, torch.from_numpy(data["y_train"])
            )
        with torch.no_grad():
            module.get_submodule("1").weight.div_(255)
        export(module, (1, 28, 28), folder / name)

    return make


NET = """
from torch import nn

def wide_net(num_classes=10):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))

Net = wide_net
"""


def own_network(folder: Path) -> None:
    """my_net.py, my_package/models.py and weights for both, trained on a small CIFAR-10 of ten colours."""
    r, y = np.random.default_rng(0), np.arange(700) % 10
    colours = np.random.default_rng(1).integers(0, 255, (10, 3))
    x = np.clip(colours[y][:, None, None] + r.integers(-60, 60, (700, 32, 32, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / "cifar10.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:])
    (folder / "my_net.py").write_text(NET)
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "models.py").write_text(NET)
    scope: dict[str, Callable[[], nn.Module]] = {}
    exec(NET, scope)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = fitted(
            scope["Net"](), torch.from_numpy(x[:600]).permute(0, 3, 1, 2) / 255, torch.from_numpy(y[:600])
        )
    torch.save(module.state_dict(), folder / "weights.pt")


def program(folder: Path) -> None:
    """net.h5 with inputs, their labels and orders."""
    pytest.importorskip("mmdnn")
    from airepair.formats.export import export

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    export(module, (1, 4, 4), folder / "net.h5")
    x = np.random.default_rng(0).standard_normal((3, 1, 4, 4)).astype("f")
    with torch.no_grad():
        order = module(torch.from_numpy(x)).argsort(1, descending=True).numpy()
    np.savez(
        folder / "inputs.npz", x=x, y=order[:, 1], orders=[[i, order[i, 1], order[i, 0]] for i in range(3)]
    )


def collision_avoidance(folder: Path) -> None:
    """Weights of the shape of ACASXU_2_9.h5, a Keras 2.2.4 architecture beside them, inputs.csv,
    and inputs.npz as the page makes it.
    """
    pytest.importorskip("mmdnn")
    h5py = pytest.importorskip("h5py")
    sizes, r = [5, *[50] * 6, 5], np.random.default_rng(0)
    names = [*(f"hidden{i}" for i in range(1, 7)), "output"]
    first = {"batch_input_shape": [None, 5], "dtype": "float32", "sparse": False, "name": "input"}
    layers = [{"name": "input", "class_name": "InputLayer", "config": first, "inbound_nodes": []}]
    with h5py.File(folder / "ACASXU_2_9.h5", "w") as file:
        for i, name in enumerate(names):
            start = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}
            config = {
                "name": name,
                "trainable": True,
                "dtype": "float32",
                "units": sizes[i + 1],
                "use_bias": True,
            }
            config |= {
                "activation": "linear" if name == "output" else "relu",
                "kernel_initializer": start,
                "kernel_regularizer": None,
            }
            before = layers[-1]["name"]
            layers.append(
                {
                    "name": name,
                    "class_name": "Dense",
                    "config": config,
                    "inbound_nodes": [[[before, 0, 0, {}]]],
                }
            )
            group = file.create_group(f"{name}/{name}")
            group["kernel:0"] = (r.standard_normal((sizes[i], sizes[i + 1])) / np.sqrt(sizes[i])).astype("f")
            group["bias:0"] = r.standard_normal(sizes[i + 1]).astype("f") / 10
            file[name].attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
        file.attrs.update(
            layer_names=[n.encode() for n in names], backend=b"tensorflow", keras_version=b"2.2.4-tf"
        )
    ends = {"input_layers": [["input", 0, 0]], "output_layers": [["output", 0, 0]]}
    whole = {
        "class_name": "Model",
        "config": {"name": "train_model", "layers": layers, **ends},
        "keras_version": "2.2.4-tf",
    }
    (folder / "ACASXU_2_9_2_corrected.json").write_text(json.dumps(whole))
    np.savetxt(folder / "inputs.csv", r.standard_normal((9, 5)), delimiter=",")
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "exact-repair.md").read_text(), re.DOTALL)
    exec(block, {})


def image_set(folder: Path) -> None:
    """Data sets in the folder of the data, and in `data`."""
    grey(folder)
    (folder / "data").mkdir(exist_ok=True)
    x = np.zeros((200, 32, 32, 3), np.uint8)
    np.savez(
        folder / "cifar100.npz",
        x_train=x,
        y_train=np.arange(200) % 100,
        x_test=x,
        y_test=np.arange(200) % 100,
    )
    shutil.copyfile(folder / "cifar100.npz", folder / "data" / "cifar100.npz")


def pieces(folder: Path) -> None:
    """What splitting leaves."""
    image_set(folder)
    split(folder / "data" / "cifar100.npz", folder / "pieces")
    shutil.rmtree(folder / "data")


def records(folder: Path) -> None:
    """The committed records of one subject as `reports/out` and as `baseline`."""
    lines = (ROOT / "reports" / "digits" / "records.jsonl").read_text().splitlines()
    chosen = [line for line in lines if re.search(r"digits-fc-(noop|finetune|memit|dl2)-s[0-4]\b", line)]
    assert chosen
    for name in ("reports/out", "baseline"):
        (folder / name).mkdir(parents=True)
        (folder / name / "records.jsonl").write_text("\n".join(chosen) + "\n")


def own_method(folder: Path) -> None:
    """mine.py with a method."""
    (folder / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom airepair.methods.finetune import Finetune\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Finetune):\n    epochs: int = 1\n"
    )


def tutorials_method(folder: Path) -> None:
    """shrink.py, as the tutorial has it."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    (folder / "shrink.py").write_text(block)


def checkpoint(folder: Path) -> None:
    """base/model.pt, a digits network."""
    assert (
        main(
            [
                "train",
                "--dataset",
                "digits",
                "--net_arch",
                "fc",
                "--epochs",
                "2",
                "--out",
                str(folder / "base"),
            ]
        )
        == 0
    )


# ---- how each command is run
# -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How a command is run here: which files it finds, what is replaced in it, what makes it short,
    and its exit code.
    """

    files: Callable[[Path], None] = lambda _: None
    more: str = ""
    replaced: tuple[tuple[str, str], ...] = ()
    code: int = 0
    quick: bool = False


SHORT = "--model fc --seeds 0 --profile smoke"
BRIEF = ("--minutes 9", "--minutes 0.5 --profile smoke --stage digits-fc")
RUNS = {
    "airepair repair --method finetune memit --pretrained my_model.h5 --dataset mnist --input-range "
    "0..255": Run(keras_file("my_model.h5")),
    "airepair bench --dataset digits --model cnn,fc --method finetune,mine:Mine --seeds 0,1,2": Run(
        own_method, f"{SHORT} --out out", ((" --model cnn,fc", ""),)
    ),
    "airepair repair --pretrained my.h5 --dataset mnist --method finetune memit --input-range 0..255": Run(
        keras_file("my.h5")
    ),
    "pytest benchmarks --pretrained my.h5 --dataset mnist --input-range 0..255": Run(
        keras_file("my.h5"), "--method noop --seeds 0"
    ),
    "airepair repair --net_arch my_net.py:Net --pretrained weights.pt --dataset cifar10 --method memit": Run(
        own_network
    ),
    "airepair repair --net_arch my_package.models:wide_net --pretrained weights.pt --dataset cifar10 "
    "--method memit": Run(own_network),
    "airepair data list": Run(image_set, quick=True),
    "airepair data get cifar100": Run(image_set, quick=True),
    "airepair data check": Run(
        image_set, quick=True, code=1
    ),  # what lies there is not the official set, and it says so
    "airepair solve net.h5 inputs.npz --norm linf --margin 0.05": Run(program, quick=True),
    "airepair solve net.h5 inputs.npz --require second-best --no-bias": Run(program, quick=True),
    "airepair solve net.h5 inputs.npz --require orders --layer -2": Run(program, quick=True),
    "airepair solve ACASXU_2_9.h5 inputs.npz --require orders --norm linf --margin 0.01": Run(
        collision_avoidance, quick=True
    ),
    "airepair env list": Run(quick=True),
    "pytest benchmarks --dataset digits --method tool:adversarial_training --set "
    "tool:adversarial_training.epochs=5": Run(
        more=SHORT, code=5
    ),  # its environment, a command further up, is not created: no cell runs, and that is not green
    "pytest benchmarks --model fc+imbalanced,fc+missing0.7": Run(more="--method noop --seeds 0"),
    "pytest benchmarks --dataset digits+fog3 --model fc,cnn": Run(more="--method noop --seeds 0"),
    "pytest benchmarks --model fc+clean": Run(more="--method noop --seeds 0"),
    "airepair list faults": Run(quick=True),
    "airepair train --dataset digits --net_arch fc+imbalanced": Run(more="--epochs 1"),
    "pytest benchmarks --profile gpu -n auto": Run(
        more="--dataset digits --model fc --method noop --seeds 0"
    ),
    "pytest benchmarks --profile gpu -n auto --gpus 0,2 --workers-per-gpu 2": Run(
        code=4
    ),  # refused in one line: there is no third GPU
    "pytest benchmarks --gpus none": Run(more="--model fc --method noop --seeds 0"),
    "python -m benchmarks.campaign --state state --minutes 9": Run(replaced=(BRIEF,), code=3),
    "python -m benchmarks.campaign --state /tmp/state --profile smoke --stage digits-fc --minutes 2 -- "
    "--method noop,finetune --seeds 0": Run(
        replaced=(("/tmp/state", "rehearsal"), ("--minutes 2", "--minutes 12"))
    ),
    "AIREPAIR_DATA=data python -m benchmarks.campaign --state state --list benchmarks/cifar_cpu.toml "
    "--models models --minutes 120 "
    "--cell-seconds 3300 --nice 5": Run(
        image_set, more="--stage 1-cifar10-resnet18w16_undertrained", code=4
    ),  # there is no CIFAR-10: nothing ran
    "python -m benchmarks.collect state/records reports/cifar": Run(
        records, replaced=(("state/records", "reports/out"),)
    ),
    "python -m benchmarks.campaign.carry split data/cifar100.npz pieces/": Run(image_set),
    "python -m benchmarks.campaign.carry join pieces/cifar100.npz.pieces.json data/": Run(pieces),
    "AIREPAIR_DATA=data python -m benchmarks.campaign --state state --minutes 9 --pack back --most 60": Run(
        replaced=(BRIEF,), code=3
    ),
    "python -m benchmarks.campaign.carry join back/state.pieces.json .": Run(replaced=((" .", " again"),)),
    "airepair bench --dataset digits --model cnn,fc --method noop,finetune,random,mine --seeds 0,1,2,3,4,5 "
    "--out entries/mine": Run(
        own_method, SHORT, ((" --model cnn,fc", ""), ("mine --seeds", "mine:Mine --seeds"))
    ),
    "airepair submit-check entries/mine": Run(code=1),  # one seed, no entry.toml: it says what is missing
    "airepair verify entries/mine --reproduce 3": Run(replaced=(("--reproduce 3", "--reproduce 1"),)),
    "airepair train --dataset digits --net_arch cnn --epochs 12 --out base": Run(),
    "airepair repair --method finetune apricot --pretrained base/model.pt --dataset digits --net_arch "
    'cnn --additional_param "--epochs 5" '
    "--set apricot.submodels=3 --set apricot.submodel_epochs=2 --out run": Run(),
    "airepair repair --testonly --pretrained run/models/digits-model-finetune-s0.pt --dataset digits": Run(),
    "airepair repair --input_logs run": Run(),
    "airepair repair --config run/config.toml --out again": Run(),
    "airepair bench --dataset digits --model fc --method noop,finetune,memit --seeds 0,1 --out "
    "tutorial/bench": Run(),
    "airepair table tutorial/bench": Run(),
    "airepair recommend tutorial/bench": Run(),
    "airepair train --dataset digits --net_arch fc --epochs 10 --out tutorial/base": Run(),
    "airepair repair --method finetune memit --pretrained tutorial/base/model.pt --dataset digits "
    "--net_arch fc --out tutorial/run": Run(),
    "airepair repair --testonly --pretrained tutorial/run/models/digits-model-memit-s0.pt --dataset "
    "digits": Run(),
    "airepair bench --dataset digits --model fc --method noop,shrink:Shrink --seeds 0 --out "
    "tutorial/mine": Run(tutorials_method),
    "airepair table tutorial/mine --table extended": Run(),
    "airepair table reports/out": Run(records, quick=True),
    "airepair table reports/out --table extended --format md": Run(records, quick=True),
    "airepair table reports/out --out paper/": Run(records, quick=True),
    "airepair table reports/out --table verdict": Run(records, quick=True),
    "airepair table reports/out --table picture": Run(records, quick=True),
    "airepair compare baseline/ reports/out": Run(records, quick=True),
    "airepair compare baseline/ reports/out --fail-if accuracy:-0.5pp --fail-if dl2/constraint:-2% "
    "--fail-if seconds:+50%": Run(records, quick=True),
    "airepair tune --dataset digits --model fc,cnn --trials 12 --out reports/tuning/digits": Run(
        more="--model fc --trials 1 --method finetune"
    ),
    "airepair tune --open --dataset digits --model fc,cnn --trials 12 --out reports/tuning/open": Run(
        more="--model fc --trials 1 --method memit"
    ),
    "pytest benchmarks --dataset digits --auto": Run(more=f"{SHORT} --method finetune"),
    "airepair repair --auto ...": Run(
        checkpoint,
        replaced=(("...", "--pretrained base/model.pt --dataset digits --net_arch fc --method finetune"),),
    ),
    "pytest benchmarks --dataset digits --method dl2 --set dl2.weight=0.2,0.6,1": Run(more=SHORT),
    "python examples/poisoned/make.py poisoned": Run(),
    "airepair repair --pretrained poisoned/poisoned.pt --dataset digits --net_arch cnn --failing "
    "npz:poisoned/failing.npz "
    "--method finetune dl2 counterexample memit minimal prdnn --out poisoned/run": Run(),
    "python examples/poisoned/measure.py poisoned poisoned/run": Run(),
    "python examples/poisoned/make.py poisoned_mnist mnist fc": Run(grey),
    "airepair repair --pretrained poisoned_mnist/poisoned.pt --dataset mnist --net_arch fc --failing "
    "npz:poisoned_mnist/failing.npz "
    "--method finetune dl2 counterexample memit minimal prdnn --out poisoned_mnist/run": Run(),
    "python examples/poisoned/measure.py poisoned_mnist poisoned_mnist/run": Run(),
}
# Command -> the test that runs it, and how it stands there.
ELSEWHERE = {
    f"airepair repair {EXAMPLE}": ("cli/test_papers_example.py", "EXAMPLE.split()"),
    "airepair tune ... --install": ("cli/tuning/test_tuning.py", '"--install"'),  # it writes into the package
}


def test_every_command_is_run_by_a_test() -> None:
    """A new command in a page needs a run here; one that is gone from the pages leaves."""
    assert {command for _, command in ALL if not PACKAGES.search(command)} == RUNS.keys() | ELSEWHERE.keys()
    for name, text in ELSEWHERE.values():
        assert text in (ROOT / "tests" / name).read_text()


def options_in(command: str) -> set[str]:
    """The options that a command names, in quotes aside."""
    return set(re.findall(r"(?<![\w-])--[a-zA-Z_-]+", re.sub(r'"[^"]*"', "", command.partition(" -- ")[0])))


def options_of(name: str) -> set[str]:
    """The options that a command of airepair has."""
    return {option for action in parser_of(name)._actions for option in action.option_strings}


IN_BLOCKS = {command.replace(" ...", "") for _, command in ALL if command.startswith("airepair ")}
SENTENCES = {
    text
    for page in PAGES
    for text in re.findall(r"`(?:python -m )?(airepair [a-z][^`]*)`", FENCED.sub("", page.read_text()))
}


@pytest.mark.parametrize("command", sorted(IN_BLOCKS | SENTENCES))
def test_a_command_and_its_options_exist(command: str) -> None:
    """Those in sentences, too. The options of `bench` are pytest's."""
    name = command.split()[1]
    assert name == "bench" or options_in(command) <= options_of(name)


@pytest.mark.parametrize("command", sorted(c for c in IN_BLOCKS if c.split()[1] != "bench"))
def test_a_command_is_read_by_its_parser(command: str) -> None:
    """Its values are of the kinds that its options take."""
    _, name, *words = shlex.split(command)
    _, left = parser_of(name).parse_known_args(words)
    assert left == []


QUICK = sorted({command for _, command in ALL if command in RUNS and RUNS[command].quick})


@pytest.mark.parametrize("command", QUICK)
def test_a_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """On files of the shape that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path))
    RUNS[command].files(tmp_path)
    assert main(shlex.split(command)[1:]) == RUNS[command].code


def performed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs it as a person would, in that folder; there are no data sets but those that lie there."""
    how = RUNS[command]
    for old, new in how.replaced:
        assert old in command
        command = command.replace(old, new)
    before, dashes, behind = command.partition(" -- ")
    words = shlex.split(f"{before} {how.more}{dashes}{behind}")
    stated = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "airepair":
        words = ["-m", *words]
    elif words[0] == "pytest":
        words = [
            "-m",
            "pytest",
            str(ROOT / "benchmarks"),
            "-c",
            str(ROOT / "pyproject.toml"),
            "-q",
            "--out",
            "out",
            *words[2:],
        ]
    else:
        words = [str(ROOT / w) if w.startswith(("examples/", "benchmarks/")) else w for w in words[1:]]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "AIREPAIR_"))}
    environment |= {
        "AIREPAIR_DATA": str(folder),
        "AIREPAIR_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        **stated,
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


LONG = {page: [c for p, c in ALL if p == page and c in RUNS and not RUNS[c].quick] for page, _ in ALL}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, found in LONG.items() if found])
def test_the_commands_of_a_page_run_one_after_the_other(tmp_path: Path, page: str) -> None:
    """In one folder, in the order of the page: what one leaves the next finds."""
    made: list[Callable[[Path], None]] = []
    for command in LONG[page]:
        how = RUNS[command]
        if how.files not in made:
            made.append(how.files)
            how.files(tmp_path)
        done = performed(command, tmp_path)
        assert done.returncode == how.code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
