"""The slot grid: 50 ms slots, windows of 80 of them every 40, and a phase for each device."""

import zlib

SLOT_MS = 50
WINDOW_SLOTS = 80
STRIDE_SLOTS = 40
WINDOW_MS = WINDOW_SLOTS * SLOT_MS


def phase(device_id: bytes) -> int:
    """Return the residue, modulo the stride, of the slots at which this device's windows start.

    A phase for each device spreads the closings of a million phones with good clocks over the stride instead of
    having them all in the same 50 ms.
    """
    return zlib.crc32(device_id) % STRIDE_SLOTS
