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
from inference.devices.har_engine import HarEngine, Shared
from inference.devices.tile_kernels import AXES, ENTRIES, FEATURES, SIDE, SLOTS, Layers, convolve
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
        layers = pack_layers(weights)
        last = np.ascontiguousarray(weights["output.weight"].T), weights["output.bias"]
        super().__init__([_Part(layers, *last).answer for _ in range(threads)], SIDE, "tiles")
        first_call(lambda: self(np.zeros((1, SLOTS, AXES), np.float32)), entries=len(ENTRIES))


class _Part:
    """Room for what is between the layers, for one thread."""

    def __init__(self, layers: Layers, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        self._layers, self._weight, self._bias = layers, weight, bias
        self._room = new_room()

    def answer(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits of frames: (n, slots, axes) to (n, classes)."""
        features = np.empty(len(frames) * FEATURES, np.float32)
        convolve(frames.reshape(-1), len(frames), self._layers, self._room, features)
        logits: NDArray[np.float32] = features.reshape(-1, FEATURES) @ self._weight
        logits += self._bias
        return logits


def warm_up() -> None:
    """Compile, or load what has been compiled and cached; for a CPU that has the unit."""
    tensors = HarCnnArguments().tensors
    TilesHarCnn({name: np.zeros(spec.shape, np.float32) for name, spec in tensors.items()}, threads=1)
