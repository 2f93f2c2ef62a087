"""The module that is really served: raw frames in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Served(nn.Module):
    """A network with its normalisation before it and its calibrated softmax behind it.

    Input: frames (n, *shape) in the units of the data, float32 or int32.
    Output: float32 (n, classes), rows add to 1.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], temperature: float) -> None:
        super().__init__()
        self.network = network
        self.normalises = len(mean) > 0
        self.sharpness = 1.0 / temperature
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", 1.0 / torch.tensor(std, dtype=torch.float32))

    def forward(self, frames: Tensor) -> Tensor:
        """Probabilities (n, classes) of `frames`."""
        if self.normalises:
            frames = (frames - self.mean) * self.scale
        return torch.softmax(self.network(frames) * self.sharpness, dim=1)
