"""A pretend CUDA device for a machine without one: its tensors say `cuda:0`, lie in host memory, and
obey CUDA's rules about devices.

As a pytest plugin (`-p tests.pretend_cuda`) or by `install()`, before anything else uses torch. It
refuses tensors of two devices in one operation, a generator of another device, NumPy on a device
tensor, and, while a graph is recorded, whatever waits for the device; in torch's synchronisation
debug mode it warns of that. A recorded graph is the list of its operations, replayed in place: what a
replay does not repeat (Python counters, tensors made anew) shows up in the results. Recording
computes nothing that stays, as on CUDA. CUDA_VISIBLE_DEVICES says how many cards there are.

It says nothing about speed, memory, bf16 (autocast is off), fused kernels, or races between
streams. Batch norm's backward under `torch.func.vmap` reports mixed devices here and not on CUDA.
About thirty times slower than the CPU.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch._dynamo  # before the functions that it lists are replaced
import torch.optim.sgd as sgd  # the package deletes its own name for it
import torch.utils._pytree as pytree
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}
MAY_MIX = INDEXED | {
    aten.copy_.default,
    aten._to_copy.default,
    aten.set_.source_Tensor,
    aten._has_compatible_shallow_copy_type.default,
}
READ_BACK = {
    f"aten::{n}"
    for n in (
        "_local_scalar_dense",
        "nonzero",
        "equal",
        "masked_select",
        "unique_dim",
        "_unique2",
        "is_nonzero",
    )
}


class State:
    """What the device is doing: the graph that it records, whether it warns of what waits for it, and of
    each call of the user whether it has device tensors or names a device.
    """

    graph: Graph | None = None
    warns: bool = False
    has_device_tensors: ClassVar[list[bool]] = []
    names_device = 0


def refuse_in_graph(what: str) -> None:
    """RuntimeError as CUDA raises it, if a graph is being recorded; torch's warning, if it is to warn."""
    if State.warns:
        warnings.warn(f"called a synchronizing CUDA operation ({what})")
    if State.graph is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")


class OnDevice(Tensor):
    """A tensor of the device; `raw` is its memory."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_subclass(cls, raw.detach(), False)  # type: ignore[assignment]
        made.raw = raw.detach()
        return made

    def __init__(self, raw: Tensor) -> None:
        """All is done in __new__."""

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        refuse_in_graph("tolist reads back")
        return self.raw.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
            "host memory first."
        )

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        return OnDevice, (self.raw,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            new = OnDevice(self.raw.clone())
            parameter = isinstance(self, torch.nn.Parameter) or getattr(self, "_is_param", False)
            memo[id(self)] = (
                torch.nn.Parameter(new, self.requires_grad)
                if parameter
                else new.requires_grad_(self.requires_grad)
            )
        return memo[id(self)]


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, after it was checked against the rules; its results are on the device if its
    inputs are.
    """
    leaves = pytree.tree_leaves((args, kwargs))
    ours = [t for t in leaves if isinstance(t, OnDevice)]
    hosts = [t for t in leaves if isinstance(t, Tensor) and not isinstance(t, OnDevice)]
    wanted = kwargs.get("device")
    check(func, args, kwargs, ours, hosts)
    known = {id(t.raw): t for t in ours}
    raw_args, raw = pytree.tree_map(lambda t: t.raw if isinstance(t, OnDevice) else t, (args, kwargs))
    raw |= {"device": torch.device("cpu")} if wanted is not None else {}
    raw |= {"pin_memory": False} if raw.get("pin_memory") else {}
    with torch._C.DisableTorchFunction():
        if State.graph is not None:
            State.graph.remember(func, raw_args)
        out = func(*raw_args, **raw)
    if State.graph is not None:
        State.graph.operations.append((func, raw_args, raw, out))
    there = lies_there(func, args, wanted, ours, hosts)

    def wrapped(t: Any) -> Any:
        return (
            t
            if not isinstance(t, Tensor)
            else known[id(t)]
            if id(t) in known
            else OnDevice(t)
            if there
            else t
        )

    return pytree.tree_map(wrapped, out)


def check(func: Any, args: Any, kwargs: dict[str, Any], ours: list[OnDevice], hosts: list[Tensor]) -> None:
    """RuntimeError for what CUDA refuses."""
    name, wanted = func._schema.name, kwargs.get("device")
    mixed = [tuple(t.shape) for t in hosts if t.dim() > 0] if ours and func not in MAY_MIX else []
    if mixed or (func is aten.index.Tensor and ours and not isinstance(args[0], OnDevice)):
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {name} got cuda:0 and cpu {mixed[:3]}"
        )
    if isinstance(kwargs.get("generator"), torch.Generator) and (ours or _cuda(wanted)):
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' in {name}")
    masks = func is aten.index.Tensor and any(
        isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in pytree.tree_leaves(args[1])
    )
    if ours and (name in READ_BACK or masks):
        refuse_in_graph(f"{name} reads back")
    if (
        ours
        and func in INDEXED
        and any(isinstance(i, Tensor) and not isinstance(i, OnDevice) for i in pytree.tree_leaves(args[1]))
    ):
        refuse_in_graph("an index is copied across devices")
    if (
        func is aten._to_copy.default
        and wanted is not None
        and isinstance(args[0], OnDevice) != _cuda(wanted)
    ):
        refuse_in_graph("copy across devices")
    if func is aten.copy_.default and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
        refuse_in_graph("copy_ across devices")


def lies_there(func: Any, args: Any, wanted: Any, ours: list[OnDevice], hosts: list[Tensor]) -> bool:
    """Whether the results of an operation are on the device."""
    if func is aten._to_copy.default:
        return (
            isinstance(args[0], OnDevice)
            if wanted is None
            else _cuda(wanted) or isinstance(args[0], OnDevice)
        )
    if func in (aten.copy_.default, aten.index.Tensor):
        return isinstance(args[0], OnDevice)
    if wanted is None:
        return bool(ours)
    made_within = not hosts and not ours and bool(State.has_device_tensors) and State.has_device_tensors[-1]
    return _cuda(wanted) or made_within or bool(ours and not State.names_device)


def _cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class ToHost(torch.autograd.Function):
    """A copy to the host whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, x: OnDevice) -> Tensor:
        return x.raw.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return OnDevice(gradients[0])


class ToDevice(torch.autograd.Function):
    """A copy to the device whose gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return OnDevice(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].raw


def moved(t: Tensor, device: Any) -> Tensor:
    """The tensor on the device that is named."""
    here = isinstance(t, OnDevice)
    if here == _cuda(device):
        return t
    refuse_in_graph("copy across devices")
    if t.requires_grad and torch.is_grad_enabled():
        return (ToHost if here else ToDevice).apply(t)  # type: ignore[no-any-return]
    with torch.no_grad():
        return t.detach().raw.clone() if here else OnDevice(t.detach().clone())  # type: ignore[attr-defined,no-any-return]


class Dispatch(TorchDispatchMode):
    """Operations without a tensor of the device pass here, too: they may make one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Calls(TorchFunctionMode):
    """The user's calls: those that move a tensor are done here, the others are noted."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if args and isinstance(args[0], Tensor) and name in ("to", "cuda", "cpu", "type_as"):
            return self.move(func, name, args[0], list(args[1:]), kwargs)
        names = kwargs.get("device") is not None
        if names:
            kwargs["device"] = CUDA if str(kwargs["device"]) == "cuda" else kwargs["device"]
            if name in ("tensor", "as_tensor", "asarray") and _cuda(kwargs["device"]):
                kwargs.pop("device")
                return moved(func(*args, **kwargs), CUDA)
            if name == "as_tensor" and args and isinstance(args[0], OnDevice):
                return moved(args[0], "cpu")
        State.has_device_tensors.append(
            not names and any(isinstance(t, OnDevice) for t in pytree.tree_leaves((args, kwargs)))
        )
        State.names_device += names
        try:
            return func(*args, **kwargs)
        finally:
            State.has_device_tensors.pop()
            State.names_device -= names

    @staticmethod
    def move(func: Any, name: str, t: Tensor, rest: list[Any], kwargs: dict[str, Any]) -> Tensor:
        """`to`, `cuda`, `cpu` and `type_as` of a tensor."""
        if name in ("cuda", "cpu"):
            return moved(t, CUDA if name == "cuda" else "cpu")
        like = next((r for r in rest if isinstance(r, Tensor)), kwargs.pop("other", None))
        device = kwargs.pop("device", like.device if like is not None else None)
        if like is not None:
            kwargs["dtype"] = like.dtype
        kwargs.pop("non_blocking", None)
        others = []
        for r in rest:
            if isinstance(r, torch.device | str) or (isinstance(r, int) and not isinstance(r, bool)):
                device = CUDA if isinstance(r, int) else r
            elif not isinstance(r, Tensor | bool):
                others.append(r)
        if device is not None:
            t = moved(t, device)
        return Tensor.to(t, *others, **kwargs) if others or kwargs else t


class Graph:
    """A recorded graph: its operations, and what memory held before that they write."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def remember(self, func: Any, args: Any) -> None:
        """Keeps the content of what the operation is about to write."""
        for argument, value in zip(func._schema.arguments, args, strict=False):
            statistics = func is aten.native_batch_norm.default and argument.name in (
                "running_mean",
                "running_var",
            )  # not said in its schema
            if statistics or (argument.alias_info is not None and argument.alias_info.is_write):
                for t in pytree.tree_leaves(value):
                    if isinstance(t, Tensor) and t.data_ptr() not in self.before:
                        self.before[t.data_ptr()] = t, t.clone()

    def forget_computing(self) -> None:
        """Puts back what recording has written: CUDA computes nothing meanwhile."""
        for t, content in reversed(self.before.values()):
            t.copy_(content)

    def replay(self) -> None:
        """Every operation once more, into the places of its first results."""
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for func, args, kwargs, out in self.operations:
                for place, new in zip(
                    pytree.tree_leaves(out), pytree.tree_leaves(func(*args, **kwargs)), strict=True
                ):
                    if isinstance(place, Tensor) and place.data_ptr() != new.data_ptr():
                        place.copy_(new)


@contextlib.contextmanager
def recording(graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
    """torch.cuda.graph."""
    assert State.graph is None
    State.graph = graph
    try:
        yield
    finally:
        State.graph = None
        graph.forget_computing()


class Stream:
    """Everything is in order on a host."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing to make."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Autocast(torch.autocast):
    """Off for the device: its kernels are those of the host."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        if device_type == "cuda":
            device_type, args, kwargs = "cpu", (), {"enabled": False}
        super().__init__(device_type, *args, **kwargs)


def plain_sgd(
    params: list[Tensor],
    grads: list[Tensor],
    momenta: list[Tensor | None],
    *_: Any,
    weight_decay: float,
    momentum: float,
    lr: Any,
    **more: Any,
) -> None:
    """SGD whose rate may be a tensor of the device, as the fused kernel's may."""
    for i, (p, gradient) in enumerate(zip(params, grads, strict=True)):
        g = gradient.add(p, alpha=weight_decay) if weight_decay else gradient
        if momentum:
            held = momenta[i]
            momenta[i] = held = g.detach().clone() if held is None else held.mul_(momentum).add_(g)
            g = g.add(held, alpha=momentum) if more["nesterov"] else held
        p.sub_(g * lr)


def cards() -> list[str]:
    """The pretend cards of this process."""
    return [c for c in os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",") if c.strip()]


def install() -> None:
    """Puts the device into this process's torch, for good."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    silent, none = (lambda *_, **__: None), (lambda *_, **__: contextlib.nullcontext())
    found: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: len(cards()),
        "current_device": lambda: 0,
        "get_device_name": lambda *_: f"Pretend GPU {cards()[0]}",
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (80 << 30, 80 << 30),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "get_sync_debug_mode": lambda: int(State.warns),
        "set_sync_debug_mode": lambda mode: setattr(State, "warns", mode in (1, "warn")),
        "is_current_stream_capturing": lambda: State.graph is not None,
        "Stream": Stream,
        "Event": Stream,
        "CUDAGraph": Graph,
        "graph": recording,
        "current_stream": Stream,
        "default_stream": Stream,
        "stream": none,
        "device": none,
    }
    found |= dict.fromkeys(
        ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), lambda *_: 0
    )
    quiet = (
        "synchronize",
        "empty_cache",
        "reset_peak_memory_stats",
        "set_rng_state",
        "manual_seed",
        "manual_seed_all",
        "set_device",
        "set_stream",
        "init",
    )
    for name, value in (
        found | dict.fromkeys((*quiet, "_lazy_init", "set_per_process_memory_fraction"), silent)
    ).items():
        setattr(torch.cuda, name, value)
    torch.autocast = torch.amp.autocast = Autocast  # type: ignore[misc,assignment,attr-defined]
    sgd._single_tensor_sgd = plain_sgd
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        _unfused(optimizer)
    Dispatch().__enter__()
    Calls().__enter__()


def _unfused(optimizer: Any) -> None:
    made = optimizer.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs | ({"fused": None, "foreach": False} if "fused" in kwargs else {}))

    optimizer.__init__ = init


def pytest_configure(config: Any) -> None:
    """As a plugin."""
    install()
