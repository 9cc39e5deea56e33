"""Damaged and hostile variants of model files, and a loop that opens each; `python -m tests.damage
KIND FOLDER SEED COUNT` prints a JSON line each.

The loop runs in a process of its own, so that a crash of a foreign library is seen and named;
TensorFlow's jobs run in that process too.
"""

from __future__ import annotations

import io
import json
import pickle
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (1, 8, 8)
SECONDS = 60  # longer is a hang
Variant = tuple[str, Any]  # its name, and the bytes of a file or of the parts of a folder
FILES = {
    "torch": "net.pt",
    "legacy": "legacy.pt",
    "module": "module.pt",
    "safetensors": "net.safetensors",
    "torchscript": "script.pt",
    "exported": "net.pt2",
    "keras-h5": "net.h5",
    "keras": "net.keras",
    "onnx": "net.onnx",
    "frozen-pb": "net.pb",
    "savedmodel": "net",
}


class Touch:
    """Pickled, it is code that leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


class Hang(BaseException):
    """Not an Exception: nobody on the way may take it for an error of the file."""


def net() -> Any:
    """A small network of layers that every format has."""
    import torch

    torch.manual_seed(0)
    parts = (
        torch.nn.Conv2d(1, 3, 3),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(108, 4),
    )
    return torch.nn.Sequential(*parts).eval()


def architecture(weights: Any) -> Any:
    """The network that holds `weights`."""
    module = net()
    module.load_state_dict(dict(weights))
    return module


def sound(kind: str, folder: Path) -> Path:
    """An undamaged file (or folder) of that kind."""
    import torch

    from airepair.formats.export import export

    path = folder / FILES[kind]
    if kind == "torch":
        torch.save({"state_dict": net().state_dict(), "epoch": 3}, path)
    elif kind == "legacy":
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=False)
    elif kind == "module":
        torch.save(net(), path)
    else:
        export(net(), SHAPE, path)
    return path


def variants(kind: str, good: Path, seed: int, count: int, ran: Path) -> Iterator[Variant]:
    """Names and contents: bytes of a file, or bytes of parts of a folder by name.

    The hostile ones leave `ran` if their code runs.
    """
    if good.is_dir():
        parts = {str(p.relative_to(good)): p.read_bytes() for p in sorted(good.rglob("*")) if p.is_file()}
        for name, data in parts.items():
            for what, damaged in _damages(data, seed, max(2, count // len(parts))):
                yield f"{name}: {what}", {**parts, name: damaged}
            yield f"{name}: absent", {k: v for k, v in parts.items() if k != name}
        for what, changed in _hostile_folder(parts["saved_model.pb"], ran):
            yield what, {**parts, "saved_model.pb": changed}
        return
    data = good.read_bytes()
    yield from _damages(data, seed, count)
    if data[:2] == b"PK":
        yield from _archives(data)
    yield from _hostile(kind, data, ran)


def _damages(data: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(seed)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
        yield f"cut at {share}", data[: int(len(data) * share)]
    yield "one byte short", data[:-1]
    yield "rubbish behind", data + bytes(range(256)) * 4
    yield "rubbish before", b"rubbish" + data
    yield "twice", data + data
    yield "halves swapped", data[len(data) // 2 :] + data[: len(data) // 2]
    yield "noise with its head", data[:16] + random.bytes(len(data))
    yield "zeros with its head", data[:16] + bytes(len(data))
    for i in range(max(0, count - 13)):
        changed = bytearray(data)
        low, high = [(0, min(400, len(data))), (0, len(data)), (max(0, len(data) - 900), len(data))][i % 3]
        for place in random.integers(low, high, 1 + 3 * (i % 2)):
            changed[place] ^= 1 << int(random.integers(8))
        yield f"bits {i}", bytes(changed)
        start = int(random.integers(low, high))
        changed[start : start + 64] = random.bytes(64) if i % 2 else b"\xff" * 64
        yield f"block {i}", bytes(changed[: len(data)])


def _archives(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(e.filename, archive.read(e)) for e in archive.infolist()]
    for i, (name, _) in enumerate(parts[:8]):
        yield f"without {name}", _packed([p for p in parts if p[0] != name])
        yield f"{name} empty", _packed([(n, b"" if j == i else d) for j, (n, d) in enumerate(parts)])
    yield "a part outside", _packed([*parts, ("../../outside", b"x")])
    yield "a bomb", _packed([*parts, ("archive/data/bomb", bytes(80_000_000))], zipfile.ZIP_DEFLATED)


def _packed(parts: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in parts:
            archive.writestr(name, data)
    return out.getvalue()


def _saved(value: Any, zipped: bool = True) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def _hostile(kind: str, data: bytes, ran: Path) -> Iterator[tuple[str, bytes]]:
    import torch

    if kind in ("torch", "legacy", "module"):
        zipped, state = kind != "legacy", net().state_dict()
        yield "code instead of weights", _saved(Touch(ran), zipped)
        yield "code beside the weights", _saved({"state_dict": state, "args": Touch(ran)}, zipped)
        yield "a plain pickle", pickle.dumps(Touch(ran))
        yield "NaN", _saved({k: v * float("nan") for k, v in state.items()}, zipped)
        yield "a huge claim", _saved({k: torch.zeros(1).expand(10**6, 10**6) for k in state}, zipped)
        yield "wrong shapes", _saved({k: torch.zeros(2, 2) for k in state}, zipped)
        yield "no weights", _saved({"a": 1, "b": [None]}, zipped)
        yield "no dictionary", _saved(7, zipped)
        yield (
            "half precision, sparse, complex",
            _saved({"0.weight": torch.eye(3).to_sparse(), "0.bias": torch.ones(3) * 1j}, zipped),
        )
    elif kind == "safetensors":
        for name, header in (
            (
                "a huge claim",
                {"0.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}},
            ),
            ("offsets that cross", {"0.weight": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
            ("a header that is a list", [1, 2]),
            ("an unknown type", {"0.weight": {"dtype": "F33", "shape": [4], "data_offsets": [0, 16]}}),
        ):
            text = json.dumps(header).encode()
            yield name, len(text).to_bytes(8, "little") + text + bytes(64)
        yield "a header of 2 ** 63 bytes", (2**63).to_bytes(8, "little") + data[8:]
        yield "a header nested deeply", (200_001).to_bytes(8, "little") + b'{"a":' * 40_000 + b"1" + data
        yield "NaN", data[:-1200] + b"\xff" * 1200
    elif kind == "keras-h5":
        yield from _hostile_h5(data)
    elif kind == "keras":
        yield from _hostile_keras(data)
    elif kind == "onnx":
        yield from _hostile_onnx(data)
    elif kind == "frozen-pb":
        yield from _hostile_graph(data)


def _configs(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Configurations of Keras models that want more than layers."""
    text = json.dumps(config)
    code = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
    yield "a lambda", json.loads(text.replace('"Flatten"', '"Lambda"'))
    yield (
        "a lambda as activation",
        json.loads(text.replace('"activation": "linear"', f'"activation": {json.dumps(code)}')),
    )
    yield "a foreign module", json.loads(text.replace('"module": "keras.layers"', '"module": "os"'))
    yield "a foreign class", json.loads(text.replace('"Conv2D"', '"TorchModuleWrapper"'))
    yield "a file as layer", json.loads(text.replace('"Flatten"', '"TFSMLayer"'))
    yield "huge dense", json.loads(text.replace('"units": 4', '"units": 4000000000'))
    yield "huge image", json.loads(text.replace("[null, 8, 8, 1]", "[null, 80000, 80000, 1]"))
    yield "negative filters", json.loads(text.replace('"filters": 3', '"filters": -3'))
    yield "no layers", {"class_name": "Functional", "config": {"layers": []}}
    yield "a number", 7
    yield "a loop", json.loads(text.replace('"class_name": "Functional"', '"class_name": "Sequential"'))


def _hostile_h5(data: bytes) -> Iterator[tuple[str, bytes]]:
    import h5py

    def changed(change: Any) -> bytes:
        out = io.BytesIO(data)
        with h5py.File(out, "r+") as file:
            change(file)
        return out.getvalue()

    def weights(file: Any) -> list[Any]:
        found: list[Any] = []
        file["model_weights"].visititems(
            lambda _, d: found.append(d) if isinstance(d, h5py.Dataset) else None
        )
        return found

    def huge(file: Any) -> None:
        name = weights(file)[0].name
        del file[name]
        file.create_dataset(name, shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000))

    with h5py.File(io.BytesIO(data)) as file:
        config = json.loads(file.attrs["model_config"])
    for name, new in _configs(config):
        yield name, changed(lambda f, new=new: f.attrs.__setitem__("model_config", json.dumps(new)))
    yield "NaN", changed(lambda f: weights(f)[0].__setitem__(Ellipsis, np.nan))
    yield "a huge claim", changed(huge)
    yield "a link outside", changed(lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/")))
    yield "a link in a circle", changed(lambda f: f["model_weights"].__setitem__("x", f["model_weights"]))
    yield "a soft link to nowhere", changed(lambda f: f.__setitem__("x", h5py.SoftLink("/nowhere")))
    yield "weights of another shape", changed(lambda f: _replaced(f, weights(f)[0].name))
    yield "a configuration that is no text", changed(lambda f: f.attrs.__setitem__("model_config", 5))
    yield (
        "a configuration nested deeply",
        changed(lambda f: f.attrs.__setitem__("model_config", "[" * 60_000)),
    )


def _replaced(file: Any, name: str) -> None:
    del file[name]
    file[name] = np.zeros((2, 2), "f4")


def _hostile_keras(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {e.filename: archive.read(e) for e in archive.infolist()}
    for name, new in _configs(json.loads(parts["config.json"])):
        yield name, _packed(list({**parts, "config.json": json.dumps(new).encode()}.items()))
    weights = parts["model.weights.h5"]
    for what, damaged in _damages(weights, 5, 20):
        yield f"weights: {what}", _packed(list({**parts, "model.weights.h5": damaged}.items()))


def _hostile_onnx(data: bytes) -> Iterator[tuple[str, bytes]]:
    import onnx
    from onnx import helper

    def changed(change: Any) -> bytes:
        model = onnx.ModelProto.FromString(data)
        change(model.graph)
        found: bytes = model.SerializeToString()
        return found

    def claim(graph: Any) -> None:
        del graph.initializer[0].dims[:]
        graph.initializer[0].dims.extend([10**6, 10**6])

    def filled(graph: Any) -> None:  # a tensor of 4 TB in a few bytes
        shape = helper.make_tensor("huge", onnx.TensorProto.INT64, [2], [10**6, 10**6])
        graph.initializer.append(shape)
        graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge"], [graph.initializer[0].name + "x"]))

    yield "a huge claim", changed(claim)
    yield "a huge constant", changed(filled)
    yield "no nodes", changed(lambda g: g.ClearField("node"))
    yield "no inputs", changed(lambda g: g.ClearField("input"))
    yield "no weights", changed(lambda g: g.ClearField("initializer"))
    yield "an unknown operation", changed(lambda g: setattr(g.node[0], "op_type", "RunCommand"))
    yield "a foreign domain", changed(lambda g: setattr(g.node[0], "domain", "com.evil"))
    yield "a circle", changed(lambda g: g.node[0].input.__setitem__(0, g.node[-1].output[0]))
    yield "weights elsewhere", changed(lambda g: setattr(g.initializer[0], "data_location", 1))
    yield "a negative size", changed(lambda g: g.initializer[0].dims.__setitem__(0, -1))
    yield "an input of another kind", changed(lambda g: setattr(g.input[0].type.tensor_type, "elem_type", 8))
    yield (
        "an image of 0 pixels",
        changed(lambda g: setattr(g.input[0].type.tensor_type.shape.dim[2], "dim_value", 0)),
    )


def _hostile_graph(data: bytes) -> Iterator[tuple[str, bytes]]:
    import tensorflow as tf

    def changed(change: Any) -> bytes:
        graph = tf.compat.v1.GraphDef.FromString(data)
        change(graph)
        found: bytes = graph.SerializeToString()
        return found

    def constant(graph: Any) -> Any:
        return next(n for n in graph.node if n.op == "Const" and n.attr["value"].tensor.tensor_shape.dim)

    def claim(graph: Any) -> None:
        tensor = constant(graph).attr["value"].tensor
        for dim in tensor.tensor_shape.dim:
            dim.size = 10**6
        tensor.ClearField("tensor_content")
        tensor.float_val.append(1.0)

    def command(name: str) -> Any:
        def change(graph: Any) -> None:
            node = graph.node.add()
            node.name, node.op = "more", name

        return change

    yield "a huge claim", changed(claim)
    yield (
        "NaN",
        changed(
            lambda g: (
                constant(g)
                .attr["value"]
                .tensor.CopyFrom(tf.make_tensor_proto(np.full((3, 3, 1, 3), np.nan, "f")))
            )
        ),
    )
    for name in ("WriteFile", "ReadFile", "PyFunc", "LoadLibrary", "NoSuchOperation"):
        yield f"operation {name}", changed(command(name))
    yield "no nodes", changed(lambda g: g.ClearField("node"))
    yield "names twice", changed(lambda g: g.node.add().CopyFrom(g.node[0]))
    yield "a circle", changed(lambda g: g.node[1].input.append(g.node[-1].name))
    yield "an input from nowhere", changed(lambda g: g.node[-1].input.append("nowhere"))
    yield "no constants", changed(lambda g: [n.ClearField("attr") for n in g.node if n.op == "Const"])


def _hostile_folder(data: bytes, ran: Path) -> Iterator[tuple[str, bytes]]:
    from tensorflow.core.protobuf import saved_model_pb2

    def changed(change: Any) -> bytes:
        saved = saved_model_pb2.SavedModel.FromString(data)
        change(saved.meta_graphs[0])
        found: bytes = saved.SerializeToString()
        return found

    def before_all(meta: Any, nodes: Any) -> None:
        """Writes a file, and everything waits for it."""
        found = list(nodes)
        for name, text in (("where", str(ran)), ("what", "x")):
            node = nodes.add()
            node.name, node.op = name, "Const"
            node.attr["dtype"].type = node.attr["value"].tensor.dtype = 7
            node.attr["value"].tensor.string_val.append(text.encode())
        write = nodes.add()
        write.name, write.op = "write", "WriteFile"
        write.input.extend(["where", "what"])
        for node in found:
            node.input.append("^write")

    def called(meta: Any) -> None:
        function = meta.graph_def.library.function.add()
        function.signature.name = "evil"
        before_all(meta, function.node_def)

    def asset(meta: Any) -> None:
        meta.asset_file_def.add().filename = "/etc/hostname"

    yield "a graph that writes a file", changed(lambda meta: before_all(meta, meta.graph_def.node))
    yield "a function that writes a file", changed(called)
    yield "an asset", changed(asset)
    yield "no signature", changed(lambda meta: meta.ClearField("signature_def"))
    yield (
        "no variables",
        changed(lambda meta: [n.ClearField("attr") for n in meta.graph_def.node if n.op.startswith("Var")]),
    )
    yield "no graph", changed(lambda meta: meta.ClearField("graph_def"))


def outcome(path: Path, seconds: int = 0, **trust: Any) -> str:
    """ "opened", "refused: ..." or "BAD: ..." for whatever a user should never see; with `seconds`,
    a hang too.
    """
    import traceback

    from airepair.errors import UsageError
    from airepair.formats import open_model

    def late(*_: Any) -> None:
        raise Hang

    if seconds:
        signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
    try:
        open_model(path, architecture=architecture, max_bytes=50_000_000, **trust)
    except UsageError as error:
        text = str(error)
        return f"BAD: several lines: {text!r}" if "\n" in text else f"refused: {text}"
    except Hang:
        return f"BAD: no answer in {seconds} s"
    except BaseException:
        return "BAD: " + traceback.format_exc()[-1500:]
    finally:
        if seconds:
            signal.alarm(0)
    return "opened"


def put(content: Any, path: Path) -> Path:
    """Writes a variant: a file, or a folder of parts."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return path
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def inline() -> None:
    """TensorFlow's jobs in this process: hundreds of them need not start it hundreds of times."""
    from airepair.formats.tensorflow import files, worker

    def work(folder: Path, what: str, **job: Any) -> dict[str, Any]:
        return files.check_result(
            worker.result({"folder": str(folder), "what": what, **json.loads(json.dumps(job))}, folder)
        )

    files.work = work


def main(kind: str, folder: Path, seed: int, count: int) -> None:
    """Opens every variant; a JSON line before ("trying") and after each."""
    inline()
    (folder / "files").mkdir(exist_ok=True)
    good = folder / FILES[kind]
    good = good if good.exists() else sound(kind, folder)
    trust: dict[str, Any] = (
        {"trust_pickle": True, "shape": SHAPE} if kind in ("torchscript", "exported") else {}
    )
    for i, (name, content) in enumerate(
        [("as it was", _whole(good)), *variants(kind, good, seed, count, folder / "ran")]
    ):
        print(json.dumps({"trying": name}), flush=True)
        start = time.monotonic()
        found = outcome(put(content, folder / "files" / f"{kind}-{i}"), 0 if i == 0 else SECONDS, **trust)
        print(
            json.dumps({"name": name, "outcome": found, "seconds": round(time.monotonic() - start, 2)}),
            flush=True,
        )


def _whole(good: Path) -> Any:
    return (
        good.read_bytes()
        if good.is_file()
        else {str(p.relative_to(good)): p.read_bytes() for p in good.rglob("*") if p.is_file()}
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]))
