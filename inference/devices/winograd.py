"""The engine `winograd`: `har-cnn` by the kernels of `winograd_kernels`, in float32, for any CPU.

It is the fastest engine where a CPU has no matrix unit. A few frames are taken through all layers at once, so that the
activations stay in the cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.architectures.har_arguments import HarCnnArguments
from inference.bundle import Bundle
from inference.compiled import first_call
from inference.devices.har_engine import HarEngine, ThreadedNetwork, Weights
from inference.devices.winograd_kernels import (
    ENTRIES,
    LANES,
    ROWS,
    TAPS,
    convolve,
    dense,
    pack_dense,
    pack_filter,
    vectors,
)

# A multiple of `ROWS`, so that no row of a product is wasted; measured with 4 to 32.
FRAMES = 12
POOL = 3
REACH = 2 * TAPS - 1  # rows that a filter of ten taps needs beyond the number of its outputs


def load(bundle: Bundle, max_batch: int, threads: int) -> HarEngine:
    """Prepare a `har-cnn` bundle's network."""
    arguments = bundle.manifest.architecture.checked()
    assert isinstance(arguments, HarCnnArguments), bundle.manifest.architecture.name
    return HarEngine(bundle, WinogradHarCnn(arguments, bundle.weights, threads), max_batch)


class WinogradHarCnn(ThreadedNetwork):
    """`har-cnn` with `weights` by name and fewer multiplications; `threads` share a batch.

    It differs from PyTorch's by a few rounding errors.
    """

    def __init__(self, arguments: HarCnnArguments, weights: Weights, threads: int) -> None:
        layers = _Layers(arguments, weights)
        super().__init__([_Workspace(layers).answer for _ in range(threads)], FRAMES, "winograd")
        example = np.zeros((1, *arguments.input_shape), np.float32)
        first_call(lambda: self(example), entries=len(ENTRIES))


def warm_up() -> None:
    """Compile, or load from the cache."""
    arguments = HarCnnArguments()
    WinogradHarCnn(
        arguments, {name: np.zeros(spec.shape, np.float32) for name, spec in arguments.tensors.items()}, threads=1
    )


class _Layers:
    """The weights in the kernels' layout, and the number of rows that each layer reads and writes.

    A layer may write rows beyond those of the network. They depend on zeros or on each other, and only other such rows
    depend on them.
    """

    def __init__(self, arguments: HarCnnArguments, weights: Weights) -> None:
        slots, self.axes = arguments.input_shape
        pooled = (slots - 2 * REACH) // POOL
        self.answers = pooled - 2 * REACH
        self.tiles = (-(-pooled * POOL // 6), -(-(pooled - REACH) // 6), -(-self.answers // 2))
        self.heights = (
            max(self.tiles[0] * 6 + REACH, ROWS),
            max(self.tiles[1] * 6 + REACH, self.tiles[0] * 2),
            max(self.tiles[2] * 2 + REACH, self.tiles[1] * 6),
            self.tiles[2] * 2,
        )
        self.read = min(slots - REACH, self.heights[0])
        kernels = [weights[f"conv{number}.weight"] for number in range(1, 5)]
        first, *self.biases = [weights[f"conv{number}.bias"] for number in range(1, 5)]
        self.first = pack_dense(kernels[0], first)
        self.filters = [pack_filter(kernel, outputs) for kernel, outputs in zip(kernels[1:], (6, 6, 2), strict=True)]
        self.channels = [len(kernel) for kernel in kernels]
        self.output = np.ascontiguousarray(weights["output.weight"].T), weights["output.bias"]


class _Workspace:
    """The activations between the layers, for one thread."""

    def __init__(self, layers: _Layers) -> None:
        self._layers = layers
        sizes = zip(layers.heights, layers.channels, strict=True)
        self._rows = [np.zeros(FRAMES * height * channels, np.float32) for height, channels in sizes]
        rows = [-(-FRAMES * tiles // ROWS) * ROWS for tiles in layers.tiles]
        points = [outputs + TAPS - 1 for outputs in (6, 6, 2)]
        pairs = list(zip(rows, points, layers.channels, layers.channels[1:], strict=False))
        self._at_points = np.zeros(max(n * p * 2 * channels for n, p, channels, _ in pairs), np.float32)
        self._products = np.zeros(max(n * p * vectors(out) * LANES for n, p, _, out in pairs), np.float32)

    def answer(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of frames: (n, slots, axes) to (n, classes)."""
        layers, values = self._layers, frames.reshape(len(frames), -1)
        weight, bias = layers.output
        logits = np.empty((len(values), len(bias)), np.float32)
        for start in range(0, len(values), FRAMES):
            some = values[start : start + FRAMES]
            self._pass_on(some)
            last = self._rows[3].reshape(FRAMES, -1, layers.channels[-1])
            features = last[: len(some), : layers.answers].mean(axis=1)
            np.matmul(features, weight, out=logits[start : start + len(some)])
        logits += bias
        return logits

    def _pass_on(self, values: NDArray[np.float32]) -> None:
        layers, rows, frames = self._layers, self._rows, len(values)
        flat, channels = values.reshape(-1), layers.channels
        for frame in range(frames):
            at, to = frame * values.shape[1], frame * layers.heights[0] * channels[0]
            taps = (REACH + 1) * layers.axes
            dense(flat, at, layers.axes, taps, layers.first, layers.read, rows[0], to, channels[0])
        for layer, (outputs, pool) in enumerate(((6, POOL), (6, 1), (2, 1))):
            convolve(
                rows[layer],
                layers.heights[layer],
                channels[layer],
                outputs,
                pool,
                layers.filters[layer],
                layers.biases[layer],
                frames,
                layers.tiles[layer],
                self._at_points,
                self._products,
                rows[layer + 1],
                layers.heights[layer + 1],
            )
