"""Columns to frames: the slot grid and its rings. No Kafka, no torch, no clock."""

from windowing.grid import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS
from windowing.recordings import cut
from windowing.rings import Frames, Step, Windower, warm_up

__all__ = ["SLOT_MS", "STRIDE_SLOTS", "WINDOW_SLOTS", "Frames", "Step", "Windower", "cut", "warm_up"]
