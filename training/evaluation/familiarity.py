"""How well a bundle's familiarity separates known windows from out-of-distribution (OOD) ones.

OOD samples have three origins. Recorded ones count most, for they are real. Reports call OOD samples strangers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.activity_model import ood_samples, unseen_ood_samples
from training.data.frames import other_activity_windows
from training.data.recordings import DataFile
from training.fitting.calibration import FAMILIARITY_THRESHOLD

SYNTHETIC_COUNT = 300
"""Synthetic samples of each kind."""
SEED = 0

Origin = Literal["recorded", "made up, never taught", "made up, as taught"]


@dataclass(frozen=True, slots=True)
class OodSamples:
    """OOD samples of one kind, and their familiarity float32[m]."""

    name: str
    origin: Origin
    familiarity: np.ndarray


@dataclass(frozen=True, slots=True)
class Separation:
    """The familiarity of windows of the bundle's activities, `known` float32[n], and of OOD samples."""

    known: np.ndarray
    ood: tuple[OodSamples, ...]


def ood_kinds(known: np.ndarray, file: DataFile) -> Iterator[tuple[str, Origin, np.ndarray]]:
    """Yield the kinds of OOD samples to score: name, origin, and frames float32[m, 80, 3], m/s².

    Recorded ones are all windows in `file` that show another activity; no model is ever trained on them. The kinds "as
    taught" are made from some of the frames `known` float32[n, 80, 3].
    """
    others = other_activity_windows(file.recordings)
    if len(others):
        yield ", ".join(file.others) or "other activities", "recorded", others
    rng = np.random.default_rng(SEED)
    for unseen in unseen_ood_samples.KINDS:
        yield _name(unseen), "made up, never taught", unseen(SYNTHETIC_COUNT, rng)
    for taught in ood_samples.KINDS:
        some = known[rng.integers(0, len(known), SYNTHETIC_COUNT)]
        yield _name(taught), "made up, as taught", np.asarray(taught(some, rng), np.float32)


def _name(kind: ood_samples.Make | unseen_ood_samples.Make) -> str:
    return kind.__name__.replace("_", " ")


def share_below_threshold(familiarity: np.ndarray) -> float:
    """Return the share of windows that count as out of distribution."""
    return float((familiarity < FAMILIARITY_THRESHOLD).mean())


def roc_auc(known: np.ndarray, ood: np.ndarray) -> float:
    """Return how often a known window is more familiar than an OOD one, over all pairs; a tie counts a half."""
    ordered = np.sort(known)
    less, not_more = (np.searchsorted(ordered, ood, side) for side in ("left", "right"))
    return float(1 - (less + not_more).mean() / (2 * len(known)))


def roc_curve(known: np.ndarray, ood: np.ndarray) -> np.ndarray:
    """Return the receiver operating characteristic, float64[p, 2], from (0, 0) to (1, 1).

    For each threshold: the share of known windows below it (false alarms), and the share of OOD samples below it.
    """
    thresholds = np.append(np.unique(np.concatenate([known, ood])), np.inf)
    shares = [np.searchsorted(np.sort(one), thresholds) / len(one) for one in (known, ood)]
    return np.stack(shares, axis=1)
