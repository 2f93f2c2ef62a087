"""Memory layout of weights and activations for `amx_kernels`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.devices.amx_kernels import (
    AT_ONCE,
    DEPTH,
    FIRST_REST,
    FIRST_STEP,
    FRAME_STEP,
    POOLED_REST,
    POOLED_STEP,
    SIDE,
    THIRD_STEP,
    Bytes,
    Floats,
    Halves,
    Layers,
    Workspace,
)
from inference.devices.har_engine import Weights
from inference.devices.packing import aligned, padded, to_bfloat16


def pack_layers(weights: Weights) -> Layers:
    """Pack the weights of a bundle of `har-cnn`, by name."""
    tiles = [pack_tiles(weights[f"conv{number}.weight"]) for number in range(1, 5)]
    biases: list[Floats] = [aligned(padded(weights[f"conv{number}.bias"], SIDE)) for number in range(1, 5)]
    return Layers(tiles[0], tiles[1], tiles[2], tiles[3], biases[0], biases[1], biases[2], biases[3])


def pack_tiles(weight: NDArray[np.float32]) -> Halves:
    """Return a filter (out, in, taps) as tiles of weights: for each 16 outputs in turn, all that they multiply.

    The inputs that fill whole tile rows come first, tap by tap, then the rest. The unit multiplies pairs of
    neighbouring numbers of a row, so in a tile two rows of weights alternate.
    """
    outputs, inputs, _ = weight.shape
    whole = inputs // DEPTH * DEPTH
    taps = weight.transpose(2, 1, 0)
    parts = [padded(each.reshape(-1, outputs), DEPTH, SIDE) for each in (taps[:, :whole], taps[:, whole:])]
    rows = np.concatenate(parts)
    tiles = rows.reshape(len(rows) // DEPTH, SIDE, 2, -1, SIDE).transpose(3, 0, 1, 4, 2)
    return aligned(to_bfloat16(tiles))


def new_workspace() -> Workspace:
    """Return a workspace for the activations, all zeros: numbers beyond a frame are multiplied by weights of 0."""
    return Workspace(
        shapes=_tile_shapes(),
        frames=_halves(FRAME_STEP),
        first=_halves(FIRST_STEP),
        first_rest=_halves(FIRST_REST),
        pooled=_halves(POOLED_STEP),
        pooled_rest=_halves(POOLED_REST),
        third=_halves(THIRD_STEP),
        sums=aligned(np.zeros(AT_ONCE * SIDE * SIDE, np.float32)),
    )


def _halves(step: int) -> Halves:
    return aligned(np.zeros(SIDE * step, np.uint16))


def _tile_shapes() -> Bytes:
    """Return the unit's configuration: eight tiles of 16 rows of 64 bytes (palette 1)."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32:2] = 2 * DEPTH
    shapes[48:56] = SIDE
    return shapes
