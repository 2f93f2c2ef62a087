"""The slot grid: 50 ms slots, windows of 80 of them every 40, and a phase for each device."""

import zlib

SLOT_MS = 50
WINDOW_SLOTS = 80
STRIDE_SLOTS = 40
WINDOW_MS = WINDOW_SLOTS * SLOT_MS
LATENESS_SLOTS = 4
"""How long a window waits for late readings, unless a user sets it."""
MAX_GAP_MS = 250
"""The longest gap in a window that still gets a label, unless a user sets it."""
IDLE_TIMEOUT_S = 60.0
"""How long a device may be silent before its windows are closed, unless a user sets it."""


def phase(device_id: bytes) -> int:
    """Return the slots, modulo the stride, at which this device's windows start.

    A phase for each device spreads the closing of windows over the stride. Without it, a million phones with accurate
    clocks would close their windows in the same 50 ms.
    """
    return zlib.crc32(device_id) % STRIDE_SLOTS
