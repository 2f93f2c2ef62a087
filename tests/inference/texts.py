"""Frames of token ids for tests, and the networks that take them."""

from typing import Any

import numpy as np
import torch
from torch import nn

from inference.architectures import build

TOKENS = 50

# Each text architecture, small: its name, its arguments, and the number of labels.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "text-cnn": ("text-cnn", {"length": 30, "dimensions": 12, "maps": 10}),
    "glove-cnn": ("glove-cnn", {"length": 160, "dimensions": 12}),
    "lstm": ("recurrent", {"length": 30, "dimensions": 12, "hidden": 9}),
    "gru": ("recurrent", {"length": 30, "dimensions": 12, "hidden": 9, "cell": "gru"}),
    "deep bidirectional lstm": (
        "recurrent",
        {"length": 30, "dimensions": 12, "hidden": 9, "layers": 2, "bidirectional": True},
    ),
}


def network_of(name: str, **changes: Any) -> nn.Module:
    """A network of `NETWORKS` with random weights large enough that its answers differ, ready to serve."""
    architecture, arguments = NETWORKS[name]
    torch.manual_seed(0)
    return decide(build(architecture, **{"tokens": TOKENS, "classes": 3, **arguments, **changes})).eval()


def decide(network: nn.Module) -> nn.Module:
    """Make the random weights of `network` large enough that its answers differ from frame to frame."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.7)
    return network


def texts_of(count: int, length: int, *, seed: int = 1, tokens: int = TOKENS) -> np.ndarray:
    """Frames int32 (count, length): texts of 0 to `length` words with padding behind them."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(1, tokens, (count, length), np.int32)
    frames[np.arange(length) >= rng.integers(0, length + 1, (count, 1))] = 0
    return frames
