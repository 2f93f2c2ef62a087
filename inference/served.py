"""The module that is really served: raw frames in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.bundle import Bundle
from inference.manifest import Description, Precision

PRECISIONS: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


def served_module(bundle: Bundle) -> Served:
    """The bundle's network in float32, ready to serve: frames (n, *shape) to probabilities (n, labels)."""
    manifest = bundle.manifest
    network = manifest.architecture.skeleton()
    weights = {name: torch.from_numpy(values) for name, values in bundle.weights.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return serve(network, manifest)


def serve(network: nn.Module, description: Description) -> Served:
    """A network with what its description puts before and behind it."""
    normalisation = description.normalisation
    mean, std = ((), ()) if normalisation is None else (normalisation.mean, normalisation.std)
    return Served(network, mean, std, description.temperature).eval().requires_grad_(False)


def infer_plainly(module: nn.Module, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Answer `frames` by an ordinary call of `module` on the CPU: the reference of the devices."""
    with torch.inference_mode():
        return module(torch.from_numpy(frames)).numpy()  # type: ignore[no-any-return]
