"""Compiles the hot path's functions into their caches: `python -m service.hot_path`, once, after installation.

Functions that aren't cached are compiled when a worker starts, which takes some seconds longer.
"""

import importlib

import inference.devices.winograd
import ingest.messages.decode
import ingest.messages.label_kernel
import ingest.record_batches.record_places
import windowing
import windowing.frame_features
import windowing.smoothing
from inference.devices import cpu


def compile_hot_path() -> None:
    """Call each compiled function once."""
    inference.devices.winograd.warm_up()
    for engine, unit in cpu.BFLOAT16_ALONE.items():
        if not unit.missing():
            importlib.import_module(cpu.OURS[engine]).warm_up()
    ingest.messages.decode.warm_up()
    ingest.messages.label_kernel.warm_up()
    ingest.messages.label_kernel.warm_up_activities()
    ingest.record_batches.record_places.warm_up()
    windowing.warm_up()
    windowing.smoothing.warm_up()
    windowing.frame_features.warm_up()
    windowing.Framer(windowing.TextRules(tokens="words", html=False, length=1, keep="last"), ["a"])


if __name__ == "__main__":
    compile_hot_path()
