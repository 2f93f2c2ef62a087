"""The HAR network by the compiled kernels of `tile_kernels`, at bfloat16: what is fastest where a CPU multiplies tiles.

The last layer is NumPy's, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from inference.architectures.har_arguments import HarCnnArguments
from inference.bundle import Bundle
from inference.compiled import first_call
from inference.devices import DeviceError
from inference.devices.har_engine import Convolved, HarEngine, Shared
from inference.devices.tile_kernels import AXES, ENTRIES, SIDE, SLOTS, convolve
from inference.devices.tile_layout import new_room, pack_layers

Weights = Mapping[str, NDArray[np.float32]]


def load(bundle: Bundle, max_batch: int, threads: int) -> HarEngine:
    """Prepare the network of a bundle of `har-cnn`; raises `DeviceError` for frames that are not (80, 3)."""
    if bundle.manifest.input.shape != (SLOTS, AXES):
        raise DeviceError(f"the engine amx serves frames of ({SLOTS}, {AXES}) alone: choose engine auto")
    return HarEngine(bundle, TilesHarCnn(bundle.weights, threads), max_batch)


class TilesHarCnn(Shared):
    """The network of `har-cnn`, with `weights` by name, for frames of (80, 3); `threads` share a batch."""

    def __init__(self, weights: Weights, threads: int) -> None:
        layers, last = pack_layers(weights), (weights["output.weight"], weights["output.bias"])
        parts = [Convolved(convolve, layers, new_room(), last).answer for _ in range(threads)]
        super().__init__(parts, SIDE, "tiles")
        first_call(lambda: self(np.zeros((1, SLOTS, AXES), np.float32)), entries=len(ENTRIES))


def warm_up() -> None:
    """Compile, or load what has been compiled and cached; for a CPU that has the unit."""
    tensors = HarCnnArguments().tensors
    TilesHarCnn({name: np.zeros(spec.shape, np.float32) for name, spec in tensors.items()}, threads=1)
