"""Calibration on the validation set after the fit: the temperature, and the threshold of familiarity.

Neither changes which label is predicted.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

FAMILIARITY_THRESHOLD = 0.5
"""Windows less familiar than this count as out of distribution."""
MAX_FALSE_ALARM_RATE = 0.02
"""At most this share of the validation windows may be below `FAMILIARITY_THRESHOLD`."""


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature in [0.1, 10] that minimises the loss of `logits` float[m, k] on `targets` int64[m].

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The loss has one minimum in the inverse
    temperature, so a golden-section search finds it.
    """
    x, y = torch.from_numpy(logits).double(), torch.from_numpy(targets)

    def loss(log_sharpness: float) -> float:
        return float(F.cross_entropy(x * math.exp(log_sharpness), y))

    low, high = -math.log(10.0), math.log(10.0)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp(-(low + high) / 2)


def probabilities_at(temperature: float, logits: np.ndarray) -> np.ndarray:
    """Return the softmax float64[m, k] of `logits` float[m, k] divided by the temperature."""
    return np.asarray(torch.from_numpy(logits / temperature).double().softmax(dim=1).numpy())


def energy_threshold(logits: np.ndarray) -> float:
    """Return the offset to subtract from all `logits` float[m, k] for the false-alarm rate `MAX_FALSE_ALARM_RATE`.

    This is a quantile of logsumexp(logits), the negative energy, whose sigmoid is the familiarity
    (`inference.served_module`). Training on synthetic out-of-distribution frames does not place the threshold for real
    ones, so it is set by the rate of false alarms on known windows.
    """
    return float(
        np.quantile(torch.from_numpy(logits).double().logsumexp(dim=1).numpy(), MAX_FALSE_ALARM_RATE, method="lower")
    )
