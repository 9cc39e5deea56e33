"""The paper's `--net_arch resnet|mnist|fmnist` and `--depth` as names of the registry. Free of torch."""

from __future__ import annotations

from airepair.errors import UsageError, choose
from airepair.models import MODELS

FAMILIES = {"resnet": "resnet18", "mnist": "cnn", "fmnist": "cnn"}


def model_name(net_arch: str, depth: int | None = None, width: int | None = None) -> str:
    """Returns the registry's name: `resnet` and 34 give `resnet34`; `mnist` and `fmnist` the
    six-convolution `cnn`; any name of the registry stays (`resnet18w16` too).
    """
    architecture, by_name, narrow = net_arch.partition("w")
    if net_arch == "resnet" and depth is not None:
        name = f"resnet{depth}"
        depths = [n.removeprefix("resnet") for n in MODELS.names() if n.startswith("resnet")]
        if str(depth) not in depths:
            raise UsageError(
                f"--depth {depth} is not known for resnet; accepted: {', '.join(sorted(depths, key=int))}"
            )
    elif by_name and narrow.isdigit() and architecture in MODELS.names():
        name = net_arch
    else:
        name = FAMILIES.get(net_arch) or choose("--net_arch", net_arch, [*FAMILIES, *MODELS.names()])
    if depth is not None and net_arch != "resnet" and not name.startswith(f"resnet{depth}"):
        raise UsageError(
            f"--depth {depth} does not fit --net_arch {net_arch}; accepted: --net_arch resnet --depth {depth}"
        )
    if width is not None and not name.startswith("resnet"):
        raise UsageError(f"--width {width} is for the ResNets; {name} has one width")
    return f"{name}w{width}" if width is not None else name
