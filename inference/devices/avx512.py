"""The engine `avx512`: `har-cnn` by the kernels of `avx512_kernels`, for CPUs with dot products of bfloat16.

NumPy computes the last layer, in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.devices.avx512_kernels import (
    AXES,
    CHANNELS,
    ENTRIES,
    FEATURES,
    FIRST,
    FOURTH,
    FRAME,
    LANES,
    PANEL,
    POOLED,
    READINGS,
    ROWS,
    SLOTS,
    Floats,
    Halves,
    Layers,
    Workspace,
    convolve,
)
from inference.devices.har_engine import Convolutions, Weights
from inference.devices.packing import aligned, padded, to_bfloat16


def pack_layers(weights: Weights) -> Layers:
    """Pack the weights of a bundle of `har-cnn`, by name."""
    panels = [pack_panels(weights[f"conv{number}.weight"]) for number in range(1, 5)]
    biases: list[Floats] = [aligned(padded(weights[f"conv{number}.bias"], LANES)) for number in range(1, 5)]
    return Layers(panels[0], panels[1], panels[2], panels[3], biases[0], biases[1], biases[2], biases[3])


def pack_panels(weight: NDArray[np.float32]) -> Halves:
    """Return a filter (out, in, taps) as consecutive panels of 32 outputs; the last one has 16 if that is enough.

    A panel holds, for each pair of neighbouring inputs of a row in turn, the two weights of each output.
    """
    rows = padded(weight.transpose(2, 1, 0).reshape(-1, len(weight)), 1, LANES)  # a row for each number
    pairs = rows.reshape(len(rows) // 2, 2, -1).transpose(0, 2, 1)  # (pairs, outputs, 2)
    panels = [pairs[:, output : output + PANEL].reshape(-1) for output in range(0, pairs.shape[1], PANEL)]
    return aligned(to_bfloat16(np.concatenate(panels)))


def new_workspace() -> Workspace:
    """Return a workspace for the activations between the layers."""
    return Workspace(
        frame=np.zeros(READINGS, np.uint16),
        first=np.zeros(FIRST * CHANNELS, np.uint16),
        pooled=np.zeros(POOLED * CHANNELS, np.uint16),
        third=np.zeros(ROWS * FRAME, np.uint16),
        fourth=np.zeros(FOURTH * ROWS * FEATURES, np.float32),
    )


ENGINE = Convolutions("avx512", convolve, len(ENTRIES), (SLOTS, AXES), ROWS, pack_layers, new_workspace)
load, warm_up = ENGINE.load, ENGINE.warm_up
