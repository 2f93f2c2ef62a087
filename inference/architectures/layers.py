"""Layers that several architectures use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvRelu(nn.Conv1d):
    """A 1-D convolution and its ReLU, on sequences laid out (n, channels, 1, length).

    The extra dimension lets PyTorch use the channels-last layout, in which oneDNN and cuDNN are fastest and which does
    not exist for three dimensions. The weights keep the shape of an ordinary `Conv1d`. Of that class's options, only
    `padding`, with zeros on both sides, is supported here and by the devices.
    """

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.both_sides = [0, padding]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, 1, length) to (n, out_channels, 1, length + 2 * padding - kernel_size + 1)."""
        return torch.relu(F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=self.both_sides))
