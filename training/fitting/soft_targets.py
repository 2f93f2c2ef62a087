"""Soft targets of training examples: of one label, one of several, none (OOD), or two in succession."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

OOD = -1
"""The class of an out-of-distribution example, which has none of the labels."""


@dataclass(frozen=True, slots=True)
class Splices:
    """The example each one's beginning was taken from, `other` int64[m], and the `share` of it, float32[m]."""

    other: np.ndarray
    share: np.ndarray


def splice(inputs: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, Splices]:
    """Replace a random part of the beginning of a `share` of the examples [m, time, ...] by that of another example.

    A spliced example has two classes, weighted by their duration: Yun et al., "CutMix: Regularization Strategy to Train
    Strong Classifiers with Localizable Features", ICCV 2019, with stretches of time for rectangles. The time axis has
    at least two steps.
    """
    count, length = inputs.shape[:2]
    other = rng.permutation(count)
    cut = np.where(rng.random(count) < share, rng.integers(1, length, count), 0)
    theirs = (np.arange(length) < cut[:, None]).reshape(count, length, *[1] * (inputs.ndim - 2))
    return np.where(theirs, inputs[other], inputs), Splices(other, (cut / length).astype(np.float32))


def soft_targets(logits: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Return target probabilities float32[m, k]: one-hot, or the model's softmax over an example's candidate labels.

    `logits` float32[m, k], `targets` int64[m], `candidates` bool[t, k]. The cross entropy with these targets, before
    weights and smoothing, has the gradient of -log of the summed probability of all candidates: Jin and Ghahramani,
    "Learning with Multiple Labels", NIPS 2002.
    """
    return logits.masked_fill(~candidates[targets], -math.inf).softmax(dim=1)


def spliced_targets(logits: Tensor, targets: Tensor, splices: Splices | None, candidates: Tensor) -> Tensor:
    """Return the `soft_targets` of a batch, float32[m, k]; of spliced examples, both ones, weighted by duration."""
    soft = soft_targets(logits, targets, candidates)
    if splices is None:
        return soft
    theirs = soft_targets(logits, targets[torch.from_numpy(splices.other)], candidates)
    return soft.lerp(theirs, torch.from_numpy(splices.share)[:, None])


def with_ood_class(candidates: np.ndarray) -> Tensor:
    """Return `candidates` with a last column and a last row for OOD samples, which the class `OOD`, -1, indexes."""
    padded = np.pad(candidates, ((0, 1), (0, 1)))
    padded[OOD, -1] = True
    return torch.from_numpy(padded)


def smooth_labels(soft: Tensor, share: float) -> Tensor:
    """Smooth `soft` float32[m, k + 1] among the labels only, so that OOD targets and known targets stay apart."""
    labels, strange = soft[:, :-1], soft[:, -1:]
    return torch.cat([labels * (1 - share) + (1 - strange) * share / labels.shape[1], strange], dim=1)
