"""The engine `amx`: `har-cnn` by the compiled kernels of `amx_kernels`, at bfloat16, for CPUs with a matrix unit.

NumPy computes the last layer, in float32.
"""

from __future__ import annotations

from inference.devices.amx_kernels import AXES, ENTRIES, SIDE, SLOTS, convolve
from inference.devices.amx_layout import new_workspace, pack_layers
from inference.devices.har_engine import Convolutions

ENGINE = Convolutions("amx", convolve, len(ENTRIES), (SLOTS, AXES), SIDE, pack_layers, new_workspace)
load, warm_up = ENGINE.load, ENGINE.warm_up
