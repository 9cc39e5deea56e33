"""Fifteen files of other people, walked as a user would: networks are examined, repaired and examined
again; data sets are read.

    python -m benchmarks.cases DIR --into docs/formats.md

DIR holds the files, which are not redistributed here; MNIST must lie where docs/data.md says. Each
step is a command of `airepair`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from airepair import data
from airepair.cli.main import main as airepair
from airepair.errors import AirepairError, UsageError, one_line
from airepair.formats.fidelity import Fidelity
from airepair.records import Record, read
from benchmarks.fidelity.table import Table, into, shown, versions

METHOD = "memit"  # changes weights directly, in seconds
# A network -> the options that its user gives: the data set, and what the file does not say of itself.
NETWORKS = {
    "keras23-sequential-no-inputlayer.h5": "mnist",
    "keras214-sequential-batch_input_shape.keras": "digits",
    "keras3-input-28x28.keras": "mnist",
    "frozen-input-784.pb": "mnist",
    "savedmodel-with-optimizer-slots": "mnist --input-range 0..255",
    "onnx-nodes-unsorted.onnx": "mnist",
    "ends-in-logsoftmax.onnx": "mnist",
    "pickled-module-ends-in-softmax.pt": "mnist",
    "num_batches_tracked-shape-1.safetensors": "mnist --input-range 0..255 --net_arch beautiful_mnist.py:Net",
}
SETS = {
    "alphaonly": "folder",
    "la": "folder",
    "valnottest": "folder",
    "dsstore": "folder",
    "medmnist.npz": "npz",
    "dupclasses.npz": "npz",
}
# The network of tinygrad's examples/beautiful_mnist.py, whose weights the last of the networks has.
OWN_CODE = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        first = [nn.Conv2d(1, 32, 5), nn.ReLU(), nn.Conv2d(32, 32, 5), nn.ReLU()]
        first += [nn.BatchNorm2d(32), nn.MaxPool2d(2)]
        second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()]
        second += [nn.BatchNorm2d(64), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(576, 10))

    def forward(self, x):
        return self.layers(x)
"""
MARKS = ("<!-- cases table: begin -->", "<!-- cases table: end -->")
SET_MARKS = ("<!-- data cases table: begin -->", "<!-- data cases table: end -->")
HEAD = (
    "| file | given with `--dataset` | accuracy | read | repaired | accuracy, "
    "the rest of test | written back | examined again |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
SET_HEAD = ("| file | kind | read as |", "| --- | --- | --- |")


@dataclass(frozen=True)
class Walked:
    """One network: accuracy on all test images, and the record of its repair; `again` is the accuracy
    of the file that came back.

    `error`: why there are no numbers.
    """

    file: str
    accuracy: float = 0.0
    again: float = 0.0
    record: Record | None = None
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether the file that came back is the repaired network."""
        return self.record is not None and f"{self.again:.4f}" == f"{self.record.after['accuracy']:.4f}"


def walk(file: Path, options: str, folder: Path) -> Walked:
    """The network with these options; what the repair leaves is in `folder`."""
    (folder / "beautiful_mnist.py").write_text(OWN_CODE)
    try:
        with contextlib.chdir(folder):
            given = ["--dataset", *shlex.split(options)]
            before = _examined([*given, "--pretrained", str(file)])
            _output_of(["repair", "--method", METHOD, *given, "--pretrained", str(file), "--out", "run"])
            (record,), _ = read([folder / "run"])
            if record.status != "repaired":
                raise UsageError(f"{record.status}: {record.reason}")
            again = _examined([*given, "--pretrained", f"run/{record.subject['written_back']['file']}"])
    except AirepairError as error:
        return Walked(file.name, error=one_line(error))
    return Walked(file.name, before, again, record)


def _examined(words: list[str]) -> float:
    """The accuracy that `--testonly` prints."""
    found = re.search(r"^accuracy +(\d\.\d+)$", _output_of(["repair", "--testonly", *words]), re.MULTILINE)
    if found is None:
        raise UsageError(f"no accuracy is printed for {' '.join(words)}")
    return float(found[1])


def _output_of(words: list[str]) -> str:
    """What a command prints. UsageError if it ends badly, or lets a warning of a library through."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = airepair(words)
    if code or "Warning" in err.getvalue():
        raise UsageError(f"exit code {code}: {err.getvalue().strip().rpartition(chr(10))[2]}")
    return out.getvalue()


def line(walked: Walked) -> str:
    """The row in Markdown."""
    start = f"| {walked.file} | {NETWORKS.get(walked.file, '')} |"
    record = walked.record
    if record is None:
        return f"{start} {walked.error} | | | | | |"
    read_in, back = record.subject["origin"].get("fidelity"), record.subject["written_back"].get("fidelity")
    steps = [shown(Fidelity(**f) if f else None) for f in (read_in, back)]
    before, after = record.before["accuracy"], record.after["accuracy"]
    repaired = f"{record.after['repair_rate']:.1%} of {record.provenance['n']['failing']}"
    again = f"{walked.again:.4f}" if walked.good else f"**{walked.again:.4f}**"
    return (
        f"{start} {walked.accuracy:.4f} | {steps[0]} | {repaired} | {before:.4f} -> {after:.4f} | "
        f"{steps[1]} | {again} |"
    )


def set_line(file: Path, kind: str) -> str:
    """A data set's row in Markdown: what is read of it, or why it is refused."""
    try:
        found = data.whole(f"{kind}:{file}")
    except AirepairError as error:
        told = f"refused: {one_line(error).removeprefix(f'{file}: ')}"
    else:
        size, test = (
            "x".join(map(str, found.train.x.shape[1:])),
            len(found.test) if found.test is not None else 0,
        )
        told = "; ".join(
            (f"{len(found.classes)} classes, {size}, {len(found.train)} + {test} images", *found.notes)
        )
    return f"| {file.name} | {kind} | {told} |"


def networks() -> Table:
    """The table of the networks."""
    claim = (
        "Accuracy on all test images; the largest difference of logits between the file, "
        "run by its own framework, and the network that was "
        f"read from it, as above; the inputs that `{METHOD}` repaired, of the wrong ones of its repair "
        f"split; accuracy on the test images that "
        "the repair did not use, before and after it; the repaired file against the repaired network; "
        "its accuracy on these images when it is "
        f"opened again. {versions()}"
    )
    return Table(MARKS, HEAD, list(NETWORKS.items()), claim)


def sets() -> Table:
    """The table of the data sets."""
    return Table(
        SET_MARKS,
        SET_HEAD,
        list(SETS.items()),
        "Training and test images as they lie in the file; what was noted is in every record.",
    )


def main(arguments: list[str] | None = None) -> int:
    """Walks and prints; the exit code is 1 where a network does not come back as it was repaired."""
    parser = argparse.ArgumentParser("python -m benchmarks.cases", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", metavar="TEXT", help="the files whose name has this text")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the rows into the tables of this page")
    given = parser.parse_args(arguments)
    found = []
    for name, options in NETWORKS.items():
        if given.only in name:
            print(name, file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                found.append(walk((given.folder / name).resolve(), options, Path(folder)))
    read_sets = [set_line(given.folder / name, kind) for name, kind in SETS.items() if given.only in name]
    for table, lines in ((networks(), [line(w) for w in found]), (sets(), read_sets)):
        print("\n".join([*table.head, *lines, "", table.claim]))
        if given.into:
            into(given.into, lines, table)
    return 0 if all(w.good for w in found) else 1


if __name__ == "__main__":
    sys.exit(main())
