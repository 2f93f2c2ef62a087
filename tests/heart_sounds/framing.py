"""Heart sounds to spectrograms. In the program itself it would be `windowing/heart.py`."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

WINDOW: Final = 256  # samples, 128 ms at 2 kHz
HOP: Final = 56  # 28 ms: 32 windows a second
BINS: Final = 64  # the lowest, up to 500 Hz; a heart has nothing to say above
FLOOR: Final = 1e-8  # of the power: what is quieter counts as silence

RULES: Final[dict[str, int | float]] = {"window": WINDOW, "hop": HOP, "bins": BINS, "floor": FLOOR}
"""What a bundle's `framing` must say: the frames that it was trained on were cut like this."""

FRAME: Final = (32, BINS)


def spectrograms(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the logarithm of the power of each window at each frequency: (n, 2000) to float32 (n, 32, 64)."""
    windows = sliding_window_view(samples, WINDOW, axis=1)[:, ::HOP] / np.float32(2**15)
    spectra = np.fft.rfft(windows * np.hanning(WINDOW).astype(np.float32))[:, :, :BINS]
    power = (spectra.real**2 + spectra.imag**2) / WINDOW
    return np.log(power + FLOOR).astype(np.float32)
