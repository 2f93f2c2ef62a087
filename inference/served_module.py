"""The module that is served: from raw frames to calibrated probabilities and, if the bundle has it, familiarity."""

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


class ServedModule(nn.Module):
    """A network with its normalisation before it and its calibrated softmax behind it.

    Input: frames (n, *shape) in the units of the data, float32 or int32.
    Output: float32 (n, classes), whose rows add to 1; if it `tells_strangers`, (n, classes + 1), the familiarity last.

    The network was trained with an extra class for out-of-distribution frames, whose logit is the constant 0. So
    familiarity, the probability of any other class, is the sigmoid of the logsumexp of the logits: of the negative
    energy of Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020. It is taken before
    the temperature, which calibrates the labels among themselves. (Training may have shifted all logits alike, which
    does not change the labels' probabilities, to move a familiarity of 0.5 to where few known frames are below it.)
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        temperature: float,
        tells_strangers: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.tells_strangers = tells_strangers
        self.normalises = len(mean) > 0
        self.sharpness = 1.0 / temperature
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", 1.0 / torch.tensor(std, dtype=torch.float32))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the probabilities (n, classes) of `frames` and, if it has it, their familiarity as a last column."""
        if self.normalises:
            frames = (frames - self.mean) * self.scale
        logits = self.network(frames)
        probabilities = torch.softmax(logits * self.sharpness, dim=1)
        if not self.tells_strangers:
            return probabilities
        familiarity = torch.sigmoid(torch.logsumexp(logits, dim=1, keepdim=True))
        return torch.cat([probabilities, familiarity], dim=1)


def served_module(bundle: Bundle) -> ServedModule:
    """Return the bundle's network in float32, ready to serve: frames (n, *shape) to answers (n, columns)."""
    manifest = bundle.manifest
    network = manifest.architecture.skeleton()
    weights = {name: torch.from_numpy(values) for name, values in bundle.weights.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return for_serving(network, manifest)


def for_serving(network: nn.Module, description: Description) -> ServedModule:
    """Return a network with its description's normalisation and calibration."""
    normalisation = description.normalisation
    mean, std = ((), ()) if normalisation is None else (normalisation.mean, normalisation.std)
    module = ServedModule(network, mean, std, description.temperature, description.tells_strangers)
    return module.eval().requires_grad_(False)


def reference_answers(module: nn.Module, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Answer `frames` by an ordinary call of `module` on the CPU, in all columns: the reference for devices."""
    with torch.inference_mode():
        return module(torch.from_numpy(frames)).numpy()  # type: ignore[no-any-return]


def reference_probabilities(module: nn.Module, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probabilities of the same call, (n, labels)."""
    answers = reference_answers(module, frames)
    tells_more = isinstance(module, ServedModule) and module.tells_strangers
    return np.ascontiguousarray(answers[:, :-1]) if tells_more else answers
