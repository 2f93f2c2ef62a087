"""Columns to frames: the slot grid and its ring buffers; texts and their tokens. No Kafka, no torch, no clock."""

from windowing.frame_features import features
from windowing.grid import IDLE_TIMEOUT_S, LATENESS_SLOTS, MAX_GAP_MS, SLOT_MS, STRIDE_SLOTS, WINDOW_MS, WINDOW_SLOTS
from windowing.recordings import cut
from windowing.smoothing import Smoother
from windowing.text import Framer, FramingError, TextRules, parse_rules, tokenise
from windowing.windower import Frames, Step, Windower, warm_up

__all__ = [
    "IDLE_TIMEOUT_S",
    "LATENESS_SLOTS",
    "MAX_GAP_MS",
    "SLOT_MS",
    "STRIDE_SLOTS",
    "WINDOW_MS",
    "WINDOW_SLOTS",
    "Framer",
    "Frames",
    "FramingError",
    "Smoother",
    "Step",
    "TextRules",
    "Windower",
    "cut",
    "features",
    "parse_rules",
    "tokenise",
    "warm_up",
]
