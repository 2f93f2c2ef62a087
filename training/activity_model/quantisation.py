"""The input ranges of a network's convolutions, which a bundle needs to be served at int8.

An input becomes one of 256 steps from 0 to the range's end; larger ones saturate. This is post-training quantisation,
unsigned, by layer, after Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018. The end is a percentile rather than the maximum, which would make the
steps too coarse for all other values: Wu et al., "Integer Quantization for Deep Learning Inference: Principles and
Empirical Evaluation", 2020.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from inference.manifest import SMALLEST_RANGE, WIDEST_RANGE

QUANTILE = 0.9999
FRAMES = 4096
"""At most this many frames, evenly spaced: in `har-cnn`, the second layer has 7,100 inputs a frame."""
FRAMES_A_BATCH = 256


def activation_ranges(network: nn.Module, inputs: np.ndarray, layers: Sequence[str]) -> dict[str, float]:
    """Return the `QUANTILE` of the inputs of each of `layers`, when `network` sees `inputs`.

    `inputs` float32[n, ...] are normalised frames, as the network takes them; n is at least 1.
    """
    taken: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}

    def note(layer: str, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        taken[layer].append(given[0].numpy().ravel())

    hooks = [network.get_submodule(layer).register_forward_pre_hook(functools.partial(note, layer)) for layer in layers]
    was_training = network.training
    network.eval()
    some = np.ascontiguousarray(inputs[:: -(-len(inputs) // FRAMES)], np.float32)
    try:
        with torch.inference_mode():
            for start in range(0, len(some), FRAMES_A_BATCH):
                network(torch.from_numpy(some[start : start + FRAMES_A_BATCH]))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    ends = {layer: float(np.quantile(np.concatenate(values), QUANTILE)) for layer, values in taken.items()}
    return {layer: float(f"{min(max(end, SMALLEST_RANGE), WIDEST_RANGE):.5g}") for layer, end in ends.items()}
