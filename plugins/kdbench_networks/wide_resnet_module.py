"""The modules of `wide-resnet`.

ReLU works in place, but only on outputs of batch normalisation, whose backward pass does not need them. Tapped
outputs are never overwritten.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-[dropout]-conv3x3 plus a shortcut.

    If the number of filters or the stride changes, the shortcut is a 1x1 convolution of the activated input;
    otherwise it is the input. (Group 1 has no such convolution at width 1.)
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(y)
        y = self.relu(self.bn2(self.conv1(y)))
        if self.dropout is not None:
            y = self.dropout(y)
        return cast(Tensor, self.conv2(y) + skip)


class WideResNetModule(nn.Module):
    """See `kdbench_networks.wide_resnet.WideResNet`."""

    def __init__(self, n_classes: int, channels: int, *, blocks: int, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        widths = (16, 16 * width, 32 * width, 64 * width)

        def group(k: int) -> nn.Sequential:
            first = Block(widths[k - 1], widths[k], 1 if k == 1 else 2, dropout)
            rest = (Block(widths[k], widths[k], 1, dropout) for _ in range(blocks - 1))
            return nn.Sequential(first, *rest)

        self.group1 = group(1)
        self.group2 = group(2)
        self.group3 = group(3)
        self.bn = nn.BatchNorm2d(widths[3])
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(widths[3], n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to logits (b, n_classes)."""
        x = self.group3(self.group2(self.group1(self.conv1(images))))
        return cast(Tensor, self.fc(self.pool(self.relu(self.bn(x)))))
