"""What an example should be called: by its label, one of several, none, or two, each for as long as it lasts."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

OOD = -1
"""The class of an example that is of none of the labels."""


@dataclass(frozen=True, slots=True)
class Splices:
    """Which example of its batch each one begins with, `other` int64[m], and for which `share` of it, float32[m]."""

    other: np.ndarray
    share: np.ndarray


def splice(inputs: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, Splices]:
    """Let a `share` of a batch's examples [m, time, ...] begin as another one does, for a random part of their time.

    So an example may be of two classes, each as much as it has time, which is of two moments or more: Yun et al.,
    "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019, with stretches
    of time for rectangles.
    """
    count, length = inputs.shape[:2]
    other = rng.permutation(count)
    cut = np.where(rng.random(count) < share, rng.integers(1, length, count), 0)
    theirs = (np.arange(length) < cut[:, None]).reshape(count, length, *[1] * (inputs.ndim - 2))
    return np.where(theirs, inputs[other], inputs), Splices(other, (cut / length).astype(np.float32))


def soft_targets(logits: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """What each example should say, float32[m, k]: its label, or the likelier the more of those that it may have.

    `logits` float32[m, k], `targets` int64[m], `candidates` bool[t, k]. The cross entropy with them, before weights and
    smoothing, has the gradient of minus the log of the sum of the probabilities of all labels that it may have: Jin and
    Ghahramani, "Learning with Multiple Labels", NIPS 2002.
    """
    return logits.masked_fill(~candidates[targets], -math.inf).softmax(dim=1)


def spliced_targets(logits: Tensor, targets: Tensor, splices: Splices | None, candidates: Tensor) -> Tensor:
    """The `soft_targets` of a batch, float32[m, k]; of what is spliced, those of both, each as much as it has time."""
    soft = soft_targets(logits, targets, candidates)
    if splices is None:
        return soft
    theirs = soft_targets(logits, targets[torch.from_numpy(splices.other)], candidates)
    return soft.lerp(theirs, torch.from_numpy(splices.share)[:, None])


def with_ood_class(candidates: np.ndarray) -> Tensor:
    """`candidates` with a column for strangers and their row behind the others, where `OOD` finds it."""
    padded = np.pad(candidates, ((0, 1), (0, 1)))
    padded[OOD, -1] = True
    return torch.from_numpy(padded)


def smooth_labels(soft: Tensor, share: float) -> Tensor:
    """`soft` float32[m, k + 1] smoothed among the labels: nobody known is a little strange, and no stranger known."""
    labels, strange = soft[:, :-1], soft[:, -1:]
    return torch.cat([labels * (1 - share) + (1 - strange) * share / labels.shape[1], strange], dim=1)
