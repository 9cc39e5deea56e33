"""ResNet-20, -32, -44 and -56 for CIFAR (He et al. 2016, section 4.2): three stages of n blocks, 16,
32 and 64 channels, depth 6n + 2.

`shortcut` "A" (the paper's) drops every other pixel and pads channels with zeros, "B" is a 1x1
convolution with batch norm.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from airepair.models.resnet import initialise

Shortcut = Literal["A", "B"]


class Padded(nn.Module):
    """It is option A: every other pixel, zero channels added on both sides. No parameters."""

    def __init__(self, more: int):
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        """Maps N x C x H x W to N x (C + more) x H/2 x W/2."""
        low = self.more // 2
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, low, self.more - low))


class Block(nn.Module):
    """It has two 3x3 convolutions and the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            convolution = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            self.downsample = convolution if shortcut == "B" else Padded(outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output, rectified."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class CifarResNet(nn.Module):
    """It maps N x C x H x W to N x K."""

    def __init__(self, blocks: int, classes: int, channels: int, width: int, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.fc = nn.Linear(4 * width, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    return nn.Sequential(
        *(
            Block(inputs if k == 0 else outputs, outputs, stride if k == 0 else 1, shortcut)
            for k in range(blocks)
        ),
    )


def resnet20(
    classes: int, shape: tuple[int, int, int], width: int = 16, shortcut: Shortcut = "A"
) -> nn.Module:
    """It has three blocks per stage and .27 million parameters at 10 classes."""
    return CifarResNet(3, classes, shape[0], width, shortcut)


def resnet32(
    classes: int, shape: tuple[int, int, int], width: int = 16, shortcut: Shortcut = "A"
) -> nn.Module:
    """It has five blocks per stage."""
    return CifarResNet(5, classes, shape[0], width, shortcut)


def resnet44(
    classes: int, shape: tuple[int, int, int], width: int = 16, shortcut: Shortcut = "A"
) -> nn.Module:
    """It has seven blocks per stage."""
    return CifarResNet(7, classes, shape[0], width, shortcut)


def resnet56(
    classes: int, shape: tuple[int, int, int], width: int = 16, shortcut: Shortcut = "A"
) -> nn.Module:
    """It has nine blocks per stage."""
    return CifarResNet(9, classes, shape[0], width, shortcut)
