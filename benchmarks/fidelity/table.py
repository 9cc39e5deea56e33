"""The fidelity of every route, measured: `python -m benchmarks.fidelity [--kinds] [--into PAGE]`.

Each network is written in each format, opened from there, changed as a repair would change it,
written back into a copy of that file, and opened again. A row shows the largest difference of
logits at each step, on the inputs of every conversion (airepair/formats/fidelity.py). With `--kinds`
a row is a kind of file that people bring (kinds.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from airepair.errors import AirepairError, UsageError, choose, one_line
from airepair.formats import open_model
from airepair.formats.answer import answer
from airepair.formats.export import export
from airepair.formats.fidelity import CHECK_INPUTS, TOLERANCE, Fidelity, check_inputs, compare
from airepair.formats.mmdnn.ir import Array
from airepair.models import build
from airepair.models.recognise import load
from benchmarks.fidelity import kinds

Shape = tuple[int, int, int]
NETWORKS: dict[str, Shape] = {"digits/cnn": (1, 8, 8), "cnn": (1, 28, 28), "resnet18w8": (3, 32, 32)}
# Name of the file -> what it is, and what MMdnn does on the way in and out.
FILES = {
    "weights.pt": ("state dict", "nothing to convert"),
    "module.pt": ("pickled module", "nothing to convert"),
    "weights.safetensors": ("safetensors", "nothing to convert"),
    "net.pt": ("TorchScript", "PytorchParser, PytorchEmitter"),
    "net.pt2": ("exported program", "PytorchParser, PytorchEmitter"),
    "net.h5": ("Keras HDF5", "Keras2Emitter, Keras2Parser, PytorchEmitter"),
    "net.keras": ("Keras 3", "Keras2Emitter, Keras2Parser, PytorchEmitter"),
    "net.pb": ("frozen graph", "TensorflowEmitter, TensorflowParser2, PytorchEmitter"),
    "net": ("SavedModel", "TensorflowEmitter, TensorflowParser2, PytorchEmitter"),
    "net.onnx": ("ONNX", "none (onnx2torch)"),
}
MARKS = ("<!-- fidelity table: begin -->", "<!-- fidelity table: end -->")
KIND_MARKS = ("<!-- kinds table: begin -->", "<!-- kinds table: end -->")
PACKAGES = (
    "torch",
    "keras",
    "tensorflow-cpu",
    "mmdnn",
    "protobuf",
    "numpy",
    "onnx",
    "onnx2torch",
    "onnxruntime",
)


@dataclass(frozen=True)
class Row:
    """One network through one format; None if nothing was converted at that step. `error` says
    why there are no numbers.
    """

    network: str
    file: str
    written: Fidelity | None = None
    read: Fidelity | None = None
    back: Fidelity | None = None
    parameters: tuple[int, int] = (0, 0)
    error: str = ""


def measure(network: str, file: str, folder: Path) -> Row:
    """One row; the files are left in `folder`."""
    shape = NETWORKS[network]
    module, path, out = seeded_network(network), folder / file, folder / f"repaired-{file}"

    def architecture(weights: object) -> nn.Module:
        return load(weights, network, shape)  # type: ignore[arg-type]

    def reopened(place: Path) -> nn.Module:
        return open_model(place, architecture=architecture, shape=shape, trust_pickle=True).module

    try:
        written = _write(module, shape, path)
        opened = open_model(path, architecture=architecture, shape=shape, trust_pickle=True)
        read = compare(_logits(module, shape), _logits(opened.module, shape))
        _change(opened.module)
        back = opened.write(opened.module, out) or compare(
            _logits(opened.module, shape), _logits(reopened(out), shape)
        )
    except AirepairError as error:
        return Row(network, file, error=one_line(error))
    return Row(network, file, written, read, back, (_count(module), _count(opened.module)))


def seeded_network(network: str) -> nn.Module:
    """The network, seeded, with batch-norm statistics that are not trivial."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = build(network, "", 10, NETWORKS[network])
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.2)
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
    return module.eval()


def _write(module: nn.Module, shape: Shape, path: Path) -> Fidelity | None:
    if path.name == "weights.pt":
        torch.save(module.state_dict(), path)
    elif path.name == "module.pt":
        torch.save(module, path)
    else:
        found = export(module, shape, path)
        return None if path.suffix == ".safetensors" else found
    return None


def _logits(module: nn.Module, shape: Shape) -> Array:
    return answer(module, check_inputs(shape), None)


def _change(module: nn.Module) -> None:
    """Every parameter and running statistic a few per cent off, differently for each number."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.05 * torch.rand(tensor.shape, generator=noise))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def rows(networks: list[str], files: list[str], tell: Callable[[str], None]) -> Iterator[Row]:
    """All rows, network by network."""
    for network in networks:
        for file in files:
            tell(f"{network} as {file}")
            with tempfile.TemporaryDirectory() as folder:
                yield measure(network, file, Path(folder))


HEAD = (
    "| network | format | MMdnn's part | written | read | repair written back | parameters |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def line(row: Row) -> str:
    """The row in Markdown."""
    name, part = FILES[row.file]
    if row.error:
        return f"| {row.network} | {name} | {part} | {row.error} | | | |"
    steps = " | ".join(shown(f) for f in (row.written, row.read, row.back))
    same = (
        f"{row.parameters[0]:,}"
        if row.parameters[0] == row.parameters[1]
        else "{:,} -> {:,}".format(*row.parameters)
    )
    return f"| {row.network} | {name} | {part} | {steps} | {same} |"


def shown(found: Fidelity | None) -> str:
    """A cell of a table: the difference, in bold with the agreement where it is too large."""
    if found is None:
        return "as it is"
    text = f"{found.difference:.1e}" if found.difference else "0"
    return text if found.faithful else f"**{text}**, arg-max {found.agreement:.3f}"


def versions() -> str:
    """The interpreter and the packages that were measured with."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return f"One seed, CPU, Python {'.'.join(map(str, sys.version_info[:3]))}; {', '.join(found)}."


def claim() -> str:
    """What the numbers are, and with which versions."""
    return (
        "Written: the file, run by its own framework, against the network; read: "
        "the network opened from it against the original; written "
        "back: the changed network against its file, run by its own framework. "
        "Largest absolute difference of logits on "
        f"{CHECK_INPUTS} seeded N(0, 1) inputs; allowed: {TOLERANCE:g} x max(1, "
        f"standard deviation of the logits), and the same arg-max. "
        f"{versions()}"
    )


@dataclass(frozen=True)
class Table:
    """One of the two tables: the marks around it in a page, its head, the first two cells of its
    rows in order, and what its numbers are.
    """

    marks: tuple[str, str]
    head: tuple[str, str]
    order: list[tuple[str, str]]
    claim: str


def routes() -> Table:
    """The table of networks and formats."""
    return Table(MARKS, HEAD, [(network, FILES[file][0]) for network in NETWORKS for file in FILES], claim())


def kinds_table() -> Table:
    """The table of the kinds of files that people bring."""
    return Table(
        KIND_MARKS,
        kinds.HEAD,
        [(k.framework, k.about) for k in kinds.kinds()],
        f"{kinds.claim()} {versions()}",
    )


def into(page: Path, lines: list[str], table: Table) -> None:
    """Puts the lines into the page's table, in place of those with the same first two cells.

    UsageError if the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(table.marks[0])
    inside, end, after = rest.partition(table.marks[1])
    if not begin or not end:
        raise UsageError(f"{page} lacks the lines {' and '.join(table.marks)}")
    kept = {
        tuple(k.removeprefix("| ").split(" | ")[:2]): k
        for k in [*inside.splitlines(), *lines]
        if k.startswith("| ")
    }
    body = "\n".join([*table.head, *(kept[k] for k in table.order if k in kept)])
    page.write_text(
        f"{before}{table.marks[0]}\n\n{body}\n\n{table.claim}\n\n{table.marks[1]}{after}", encoding="utf-8"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; the exit code is 1 where a route is not faithful."""
    parser = argparse.ArgumentParser("python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="NAME,NAME")
    parser.add_argument(
        "--files", default=",".join(FILES), metavar="NAME,NAME", help=f"of: {', '.join(FILES)}"
    )
    parser.add_argument(
        "--kinds", action="store_true", help="the kinds of files that people bring, not the networks"
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="with --kinds: those whose framework or description has this text",
    )
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the rows into the table of this page")
    given = parser.parse_args(arguments)
    try:
        found = _kinds(given) if given.kinds else _routes(given)
        if given.into:
            into(given.into, found.lines, found.table)
    except AirepairError as error:
        print(f"airepair: {error}", file=sys.stderr)
        return 2
    print("\n".join([*found.table.head, *found.lines, "", found.table.claim]))
    return 0 if found.good else 1


@dataclass(frozen=True)
class Found:
    """What was measured, and whether every row is as it should be."""

    table: Table
    lines: list[str]
    good: bool


def _routes(given: argparse.Namespace) -> Found:
    networks = [choose("network", n, list(NETWORKS)) for n in given.networks.split(",")]
    files = [choose("file", n, list(FILES)) for n in given.files.split(",")]
    found = list(rows(networks, files, _show))
    return Found(
        routes(), [line(r) for r in found], all(_good(r.error, r.written, r.read, r.back) for r in found)
    )


def _kinds(given: argparse.Namespace) -> Found:
    chosen = [k for k in kinds.kinds() if given.only.lower() in f"{k.framework}: {k.about}".lower()]
    if not chosen:
        raise UsageError(
            f"no kind has {given.only!r} in it; accepted: {', '.join(k.about for k in kinds.kinds())}"
        )
    found = list(kinds.rows(chosen, _show))
    good = all(_good(r.error, r.read, r.back) and r.repaired == kinds.TO_REPAIR for r in found)
    return Found(kinds_table(), [kinds.line(r, shown) for r in found], good)


def _show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _good(error: str, *steps: Fidelity | None) -> bool:
    return not error and all(f is None or f.faithful for f in steps)
