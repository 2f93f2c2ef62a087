"""How weights, and what is between the layers, lie in memory for `amx_kernels`."""

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
    """Return a filter (out, in, taps) as tiles of weights: for 16 outputs after the other, all that they multiply.

    Of the inputs as many as fill rows of a tile come first, tap by tap, and then what is left of them. The unit takes
    two neighbouring numbers of a row at once, so in a tile two rows of weights alternate.
    """
    outputs, inputs, _ = weight.shape
    whole = inputs // DEPTH * DEPTH
    taps = weight.transpose(2, 1, 0)
    parts = [padded(each.reshape(-1, outputs), DEPTH, SIDE) for each in (taps[:, :whole], taps[:, whole:])]
    rows = np.concatenate(parts)
    tiles = rows.reshape(len(rows) // DEPTH, SIDE, 2, -1, SIDE).transpose(3, 0, 1, 4, 2)
    return aligned(to_bfloat16(tiles))


def new_workspace() -> Workspace:
    """Return room for what is between the layers, all zeros: what lies beyond frames is multiplied by weights of 0."""
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
    """What the unit is told of its eight tiles: all have 16 rows of 64 bytes (palette 1)."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32:2] = 2 * DEPTH
    shapes[48:56] = SIDE
    return shapes
