"""The HAR network by the compiled kernels of `tile_kernels`, at bfloat16: what is fastest where a CPU multiplies tiles.

The last layer is NumPy's, in float32.
"""

from __future__ import annotations

from inference.devices.har_engine import Convolutions
from inference.devices.tile_kernels import AXES, ENTRIES, SIDE, SLOTS, convolve
from inference.devices.tile_layout import new_room, pack_layers

ENGINE = Convolutions("amx", convolve, len(ENTRIES), (SLOTS, AXES), SIDE, pack_layers, new_room)
load, warm_up = ENGINE.load, ENGINE.warm_up
