"""The module that is really served: raw frames in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Served(nn.Module):
    """A network with its normalisation before it and its calibrated softmax behind it.

    Input: frames (n, *shape) in the units of the data, float32 or int32.
    Output: float32 (n, classes), rows add to 1.
    Normalisation and softmax stay in float32 whatever precision the network has: gravity alone would cost
    bfloat16 most of its eight bits, and a confidence is worth more than two digits.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], temperature: float
    ) -> None:
        super().__init__()
        self.network = network
        self.normalises = len(mean) > 0
        self.sharpness = 1.0 / temperature
        self.dtype = torch.float32
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", 1.0 / torch.tensor(std, dtype=torch.float32))

    def at_precision(self, dtype: torch.dtype) -> Served:
        """Turn the network, in place, to `dtype`."""
        self.network.to(dtype)
        self.dtype = dtype
        return self

    def forward(self, frames: Tensor) -> Tensor:
        """Probabilities (n, classes) of `frames`."""
        if self.normalises:
            frames = ((frames - self.mean) * self.scale).to(self.dtype)
        return torch.softmax(self.network(frames).float() * self.sharpness, dim=1)
