"""`har-cnn` by our own kernels: NumPy computes the normalisation and the softmax around the compiled layers.

For a single frame, PyTorch's modules took half as long again as the layers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.architectures.har_arguments import HarCnnArguments
from inference.bundle import Bundle
from inference.compiled import first_call
from inference.devices import DeviceError, EngineName
from inference.devices.staging import Staging

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]
Answer = Callable[[Floats], Floats]
"""From standardised frames float32 (n, slots, axes) to logits float32 (n, classes)."""


class HarEngine(Staging):
    """A bundle's network; `collect` runs it."""

    def __init__(self, bundle: Bundle, network: Answer, max_batch: int) -> None:
        manifest = bundle.manifest
        super().__init__(max_batch, manifest.input.shape)
        self._network = network
        self._standard = np.empty((max_batch, *manifest.input.shape), np.float32)
        normalisation = manifest.normalisation
        self._mean = np.array(normalisation.mean if normalisation else 0.0, np.float32)
        self._scale = 1 / np.array(normalisation.std if normalisation else 1.0, np.float32)
        self._sharpness = np.float32(1 / manifest.temperature)
        self._tells_strangers = manifest.tells_strangers

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Classify the batch."""
        frames = self.launched(slot)
        standard = self._standard[: len(frames)]
        np.subtract(frames, self._mean, out=standard)
        np.multiply(standard, self._scale, out=standard)
        logits = self._network(standard)
        largest = logits.max(axis=1, keepdims=True)
        logits -= largest
        if not self._tells_strangers:
            return _softmax(logits, self._sharpness)
        familiarity = _familiarity(logits, largest)
        return np.concatenate([_softmax(logits, self._sharpness), familiarity], axis=1)


def _softmax(below: NDArray[np.float32], sharpness: np.float32) -> NDArray[np.float32]:
    """Return the probabilities (n, classes) of logits given relative to each row's largest, in their memory."""
    below *= sharpness
    np.exp(below, out=below)
    below /= below.sum(axis=1, keepdims=True)
    return below


def _familiarity(below: NDArray[np.float32], largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the familiarity (n, 1) of logits (n, classes) given relative to each row's `largest` (n, 1)."""
    total: NDArray[np.float32] = np.exp(below).sum(axis=1, keepdims=True)  # from 1 to the number of classes
    # The OOD class has the logit 0: `-largest`, relative to the row's largest. Bounded, for exp(89) overflows float32.
    stranger = np.exp(np.minimum(-largest, np.float32(80)))
    stranger += total
    total /= stranger
    return total


class ThreadedNetwork:
    """Splits a batch over `parts`, one network and one thread each, if it has more than `single_thread_frames` frames.

    Smaller batches take one thread. Each part owns a workspace between its layers, so one caller at a time may use it.
    """

    def __init__(self, parts: Sequence[Answer], single_thread_frames: int, name: str) -> None:
        self._parts = parts
        self._single_thread_frames = single_thread_frames
        self._pool = ThreadPoolExecutor(len(parts), name) if len(parts) > 1 else None

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 (n, classes) of frames float32 (n, slots, axes)."""
        values = np.ascontiguousarray(frames)
        if self._pool is None or len(values) <= self._single_thread_frames:
            return self._parts[0](values)
        shares = np.array_split(values, len(self._parts))
        return np.concatenate(list(self._pool.map(_answer, self._parts, shares)))


def _answer(part: Answer, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return part(frames)


@dataclass(frozen=True, slots=True, eq=False)
class Convolutions:
    """An engine of compiled convolutions for frames of one shape; NumPy computes the last layer, in float32.

    `convolve` takes standardised frames (flat), their number, the weights from `pack_layers`, and a workspace for the
    activations from `new_workspace`. It fills in the features, float32 (n, features). `entries` counts its compiled
    functions. Threads share a batch of more than `single_thread_frames` frames.
    """

    engine: EngineName
    convolve: Callable[..., None]
    entries: int
    frame: tuple[int, int]
    single_thread_frames: int
    pack_layers: Callable[[Weights], object]
    new_workspace: Callable[[], object]

    def load(self, bundle: Bundle, max_batch: int, threads: int) -> HarEngine:
        """Prepare a `har-cnn` bundle's network; raises `DeviceError` for frames of another shape."""
        if bundle.manifest.input.shape != self.frame:
            raise DeviceError(f"the engine {self.engine} serves frames of {self.frame} alone: choose engine auto")
        return HarEngine(bundle, self.network(bundle.weights, threads), max_batch)

    def network(self, weights: Weights, threads: int) -> ThreadedNetwork:
        """Return `har-cnn` with `weights` by name, compiled; `threads` share a batch."""
        layers, last = self.pack_layers(weights), (weights["output.weight"], weights["output.bias"])
        parts = [_Convolved(self.convolve, layers, self.new_workspace(), last).answer for _ in range(threads)]
        network = ThreadedNetwork(parts, self.single_thread_frames, self.engine)
        first_call(lambda: network(np.zeros((1, *self.frame), np.float32)), entries=self.entries)
        return network

    def warm_up(self) -> None:
        """Compile, or load from the cache; for a CPU with the instructions."""
        tensors = HarCnnArguments().tensors
        self.network({name: np.zeros(spec.shape, np.float32) for name, spec in tensors.items()}, threads=1)


class _Convolved:
    """The network for one thread, with its own workspace; `last` holds the last layer's weights and biases."""

    def __init__(
        self, convolve: Callable[..., None], layers: object, workspace: object, last: tuple[Floats, Floats]
    ) -> None:
        self._convolve = convolve
        self._layers = layers
        self._workspace = workspace
        self._weight, self._bias = np.ascontiguousarray(last[0].T), last[1]

    def answer(self, frames: Floats) -> Floats:
        """Return the logits of frames: (n, slots, axes) to (n, classes)."""
        features = np.empty((len(frames), len(self._weight)), np.float32)
        self._convolve(frames.reshape(-1), len(frames), self._layers, self._workspace, features.reshape(-1))
        logits: Floats = features @ self._weight
        logits += self._bias
        return logits
