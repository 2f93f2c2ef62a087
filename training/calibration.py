"""What is fitted to people who validate when a network has learned: how sure it may be, and what is strange to it.

Neither changes which label it says.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

FAMILIARITY_THRESHOLD = 0.5
"""A familiarity below it says that a window is rather a stranger's."""
MAX_FALSE_ALARM_RATE = 0.02
"""So many of the windows of people who validate are less familiar than `FAMILIARITY_THRESHOLD`, at most."""


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature in [0.1, 10] that gives `logits` float[m, k] the lowest loss on `targets` int64[m].

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The loss has one minimum in the inverse
    temperature, so a golden section search finds it.
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
    """Probabilities float64[m, k] of `logits` float[m, k] divided by the temperature."""
    return np.asarray(torch.from_numpy(logits / temperature).double().softmax(dim=1).numpy())


def energy_threshold(logits: np.ndarray) -> float:
    """The logit to subtract from all `logits` float[m, k] for a false-alarm rate of `MAX_FALSE_ALARM_RATE` at most.

    This is a quantile of logsumexp(logits), the negative energy, whose sigmoid is the familiarity
    (`inference.served_module`). Training on synthetic out-of-distribution frames does not place the threshold for real
    ones, so it is set by the false-alarm rate on known windows.
    """
    return float(
        np.quantile(torch.from_numpy(logits).double().logsumexp(dim=1).numpy(), MAX_FALSE_ALARM_RATE, method="lower")
    )
