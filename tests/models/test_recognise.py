"""State dicts of the common public variants are recognised by names and shapes."""

import pytest
import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.models import build
from airepair.models.recognise import cleaned, load, recognise

CIFAR = (3, 32, 32)
State = dict[str, Tensor]


def network(name: str = "resnet18w4", **options: str) -> nn.Module:
    torch.manual_seed(0)
    module = build(name, "", 7, CIFAR, **options)  # type: ignore[arg-type]
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return module.eval()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + k: v for k, v in state.items()}


def old_names(state: State) -> State:
    """The widely used CIFAR ResNets: shortcut, linear."""
    return {k.replace("downsample", "shortcut").replace("fc.", "linear."): v for k, v in state.items()}


def collection_names(state: State) -> State:
    """The CIFAR-100 collection: conv1.0, conv2_x.0.residual_function.0."""
    found = {}
    for k, v in state.items():
        k = k.replace("downsample", "shortcut")
        for i in (1, 2, 3):
            k = k.replace(f".conv{i}.", f".residual_function.{3 * i - 3}.").replace(
                f".bn{i}.", f".residual_function.{3 * i - 2}."
            )
        for i in (1, 2, 3, 4):
            k = k.replace(f"layer{i}.", f"conv{i + 1}_x.")
        k = (
            k.replace("bn1.", "conv1.1.")
            if k.startswith("bn1.")
            else k.replace("conv1.", "conv1.0.")
            if k.startswith("conv1.")
            else k
        )
        found[k] = v
    return found


VARIANTS = {
    "plain": lambda s: s,
    "module": lambda s: prefixed(s, "module."),
    "net": lambda s: {"net": prefixed(s, "module."), "acc": 91.2, "epoch": 3},
    "model": lambda s: {"state_dict": prefixed(s, "model."), "optimizer": {"state": {}}},
    "nested": lambda s: prefixed(s, "module.net."),
    "shortcut": old_names,
    "collection": collection_names,
    "no counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("name", ["resnet18w4", "resnet50w4"])
def test_a_variant_gives_the_same_logits(variant: str, name: str) -> None:
    """Depth, width and classes come from the shapes; the weights arrive unchanged (half precision
    to its own rounding).
    """
    module = network(name)
    x = torch.rand(4, *CIFAR)
    found = load(VARIANTS[variant](module.state_dict()))
    assert all(p.dtype == torch.float32 for p in found.parameters())
    with torch.no_grad():
        assert torch.allclose(
            found(x), module(x), atol=0.02 * float(module(x).std()) if variant == "half" else 1e-6
        )


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_cifar_family_is_told_by_its_blocks(depth: int, shortcut: str) -> None:
    """6n + 2 layers, with either shortcut, in their public names."""
    module = network(f"resnet{depth}w4", shortcut=shortcut)
    found = recognise(cleaned(old_names(module.state_dict())))
    assert found is not None
    assert (found.name, found.classes, found.shortcut) == (f"resnet{depth}w4", 7, shortcut)
    x = torch.rand(2, *CIFAR)
    assert torch.equal(load(old_names(module.state_dict()))(x), module(x))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("cnn", (1, 28, 28)), ("fc", (1, 28, 28)), ("digits/cnn", (1, 8, 8)), ("digits/fc", (1, 8, 8))],
)
def test_our_other_networks_are_recognised(name: str, shape: tuple[int, int, int]) -> None:
    """A network without telling names is found by trying what is registered."""
    dataset, _, model = name.rpartition("/")
    module = build(model, dataset, 10, shape).eval()
    x = torch.rand(2, *shape)
    assert torch.equal(load(module.state_dict())(x), module(x))


def test_mean_and_std_of_the_checkpoint_are_a_first_layer() -> None:
    """Pixels in 0..1 go in; the network gets them standardised."""
    module = network()
    found = load(
        {
            "state_dict": module.state_dict(),
            "arch": "resnet18",
            "width": 4,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.1],
        }
    )
    x = torch.rand(2, *CIFAR)
    fed = (x - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.2, 0.1])[:, None, None]
    assert torch.allclose(found(x), module(fed), atol=1e-5)


def test_a_mismatch_names_the_first_tensors_that_differ() -> None:
    """Name, shape in the file, shape in the network."""
    state = network().state_dict()
    state["layer1.0.conv2.weight"] = torch.zeros(5, 4, 3, 3)
    with pytest.raises(
        UsageError, match=r"layer1\.0\.conv2\.weight: the file has \(5, 4, 3, 3\), the network \(4, 4, 3, 3\)"
    ):
        load(state)
    state = network().state_dict()
    del state["layer2.0.bn1.bias"]
    with pytest.raises(UsageError, match=r"layer2\.0\.bn1\.bias \(8,\) is not in the file"):
        load(state)
    with pytest.raises(UsageError, match=r"do not fit resnet34: .*and \d+ more"):
        load(network().state_dict(), "resnet34")


def test_what_is_not_known_is_said() -> None:
    """An ImageNet stem, an unknown depth, no network at all: one line each."""
    state = network().state_dict()
    with pytest.raises(UsageError, match="ImageNet stem"):
        load(state | {"conv1.weight": torch.zeros(4, 3, 7, 7)})
    with pytest.raises(UsageError, match=r"stages of \(2, 2, 2, 1\) basic blocks"):
        load({k: v for k, v in state.items() if not k.startswith("layer4.1.")})
    with pytest.raises(UsageError, match=r"no known architecture has these tensors \(a \(2, 2\)"):
        load({"a": torch.zeros(2, 2)})
