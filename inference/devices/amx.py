"""The HAR network by the compiled kernels of `amx_kernels`, at bfloat16: what is fastest where a CPU multiplies tiles.

The last layer is NumPy's, in float32.
"""

from __future__ import annotations

from inference.devices.amx_kernels import AXES, ENTRIES, SIDE, SLOTS, convolve
from inference.devices.amx_layout import new_workspace, pack_layers
from inference.devices.har_engine import Convolutions

ENGINE = Convolutions("amx", convolve, len(ENTRIES), (SLOTS, AXES), SIDE, pack_layers, new_workspace)
load, warm_up = ENGINE.load, ENGINE.warm_up
