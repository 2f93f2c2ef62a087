"""Golden frames, whose answers an activity bundle promises. They are synthetic: no recording goes into a bundle."""

import numpy as np
from torch import nn

from inference.manifest import Description
from inference.served_module import for_serving, reference_answers
from training.data.recordings import STANDARD_GRAVITY
from windowing import SLOT_MS, WINDOW_SLOTS

# As a share of 20 m/s². Of 32 frames on four fitted networks, int8 moved the familiarity of one in five by more than
# the 0.05 that a bundle allows, but of none that needed a share of 0.05 to 0.3 to become half familiar.
MODERATE_SHAKING = 0.15


def golden_frames() -> np.ndarray:
    """Return eight synthetic frames, float32[8, 80, 3], m/s².

    Two are phones at rest; six swing about gravity, at a walker's to a runner's pace.
    """
    t = np.arange(WINDOW_SLOTS)[:, None] * SLOT_MS / 1000
    postures = np.array(
        [(0, 1, 0), (0, 0.1, 1), (0, 1, 0.1), (0.2, 1, 0), (1, 0, 0.1), (0, -1, 0), (0, 1, 0), (0.7, 0.7, 0)]
    )
    hertz = np.array([0, 0, 0.9, 1.0, 0.8, 0.95, 1.35, 1.4])
    strength = np.array([0, 0, 2.0, 3.5, 3.0, 4.0, 9.0, 12.0])
    swing = np.sin(2 * np.pi * hertz[:, None, None] * t * np.array([1, 2, 2]) + np.array([0, 1, 2]))
    impact = np.sin(2 * np.pi * hertz[:, None, None] * t * np.array([3, 4, 4]) + np.array([2, 0, 1]))
    frames = STANDARD_GRAVITY * postures[:, None, :] + strength[:, None, None] * (swing + 0.5 * impact)
    return np.asarray(frames.round(2).astype(np.float32))


def half_familiar(network: nn.Module, description: Description, known: np.ndarray) -> np.ndarray:
    """Return four of the frames `known`, shaken until their familiarity is about 0.5, float32[4, 80, 3], m/s².

    Nearly all frames have a familiarity of 0 or 1, where a wrong temperature, say, would go unnoticed. If no shaking
    makes a frame unfamiliar, or it is unfamiliar already, it is shaken most, or hardly at all. The four are those that
    need closest to moderate shaking: the familiarity of an almost still phone depends on single int8 steps, and violent
    shaking exceeds the int8 ranges.
    """
    module = for_serving(network, description)
    t = np.arange(WINDOW_SLOTS)[:, None] * SLOT_MS / 1000
    shaking = 20 * np.sin(2 * np.pi * np.array([7.1, 8.3, 9.7]) * t)
    least, most = np.zeros((len(known), 1, 1)), np.ones((len(known), 1, 1))

    def shaken(share: np.ndarray) -> np.ndarray:
        return np.asarray((known + share * shaking).round(2), np.float32)

    for _ in range(12):
        share = (least + most) / 2
        familiar = reference_answers(module, shaken(share))[:, -1, None, None] > 0.5
        least, most = np.where(familiar, share, least), np.where(familiar, most, share)
    share = (least + most) / 2
    chosen = np.sort(np.argsort(np.abs(np.log(share / MODERATE_SHAKING)).ravel(), kind="stable")[:4])
    return shaken(share)[chosen]
