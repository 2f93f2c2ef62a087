"""A network's logits and probabilities during and after the fit, before it is a bundle."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def logits_of(
    model: nn.Module, inputs: np.ndarray, weights: Mapping[str, Tensor] | None = None, batch: int = 256
) -> np.ndarray:
    """Return logits float32[m, k] of `inputs`, by `model` with its own or other `weights`."""
    was_training = model.training
    model.eval()
    state = dict(model.state_dict() if weights is None else weights)
    logits = [
        torch.func.functional_call(model, state, (torch.from_numpy(inputs[i : i + batch]),))
        for i in range(0, len(inputs), batch)
    ]
    model.train(was_training)
    return np.asarray(torch.cat(logits).numpy())


def predict(model: nn.Module, inputs: np.ndarray, weights: Mapping[str, Tensor] | None = None) -> np.ndarray:
    """Return probabilities float32[m, k], at a temperature of 1."""
    return np.asarray(torch.from_numpy(logits_of(model, inputs, weights)).softmax(dim=1).numpy())
