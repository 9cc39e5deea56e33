"""ResNet-18, -34 and -50 (He et al. 2016) with the CIFAR stem: torchvision's blocks, a 3x3 stem of
stride 1, no first pooling.

Names of the tensors are torchvision's. `width` is the number of channels of the stem (64):
`resnet18w16` has a quarter of the channels. 11.17, 21.28 and 23.52 million parameters at 10
classes.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from airepair.models.vision import torchvision

STAGES: dict[str, tuple[Literal["basic", "bottleneck"], tuple[int, int, int, int]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """It has four stages of blocks behind a 3x3 stem; N x C x H x W (H, W of at least 8) to N x K."""

    def __init__(
        self,
        kind: Literal["basic", "bottleneck"],
        stages: tuple[int, int, int, int],
        classes: int,
        channels: int,
        width: int,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        blocks = torchvision().models.resnet
        block = blocks.BasicBlock if kind == "basic" else blocks.Bottleneck
        inputs = width
        for k, count in enumerate(stages):
            layer, inputs = _stage(block, inputs, width * 2**k, count, stride=1 if k == 0 else 2)
            self.add_module(f"layer{k + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(block: Any, inputs: int, planes: int, count: int, stride: int) -> tuple[nn.Sequential, int]:
    outputs = planes * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = block(inputs, planes, stride, downsample)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(count - 1))), outputs


def initialise(module: nn.Module) -> None:
    """Applies He's initialisation of the convolutions by their outputs, as torchvision does it."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def _build(name: str, classes: int, shape: tuple[int, int, int], width: int) -> nn.Module:
    kind, stages = STAGES[name]
    return ResNet(kind, stages, classes, shape[0], width)


def resnet18(classes: int, shape: tuple[int, int, int], width: int = 64) -> nn.Module:
    """It has two basic blocks per stage."""
    return _build("resnet18", classes, shape, width)


def resnet34(classes: int, shape: tuple[int, int, int], width: int = 64) -> nn.Module:
    """It has 3, 4, 6 and 3 basic blocks."""
    return _build("resnet34", classes, shape, width)


def resnet50(classes: int, shape: tuple[int, int, int], width: int = 64) -> nn.Module:
    """It has 3, 4, 6 and 3 bottleneck blocks."""
    return _build("resnet50", classes, shape, width)
