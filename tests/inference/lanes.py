"""`python -m tests.inference.lanes avx512f`: the kernels as they are for a processor with that feature, or `none`.

The compiler breaks vectors that are too wide for the processor at hand into ones that fit.
"""

import sys
from unittest import mock

import llvmlite.binding
import numba
import numpy as np

from inference.architectures.har_arguments import HarCnnArguments
from inference.served_module import reference_probabilities
from tests.inference.bundles import decided_network

numba.njit(lambda: 0)  # by now Numba knows what it compiles for
features = {"avx512f": {"avx512f": True}, "none": {}}[sys.argv[1]]
with mock.patch.object(llvmlite.binding, "get_host_cpu_features", return_value=features):
    from inference.devices import winograd, winograd_kernels

network = decided_network().eval().requires_grad_(False)
frames = np.random.default_rng(0).normal(0, 1, (14, 80, 3)).astype(np.float32)
weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
fast = winograd.WinogradHarCnn(HarCnnArguments(), weights, 1)
difference = np.abs(fast(frames) - reference_probabilities(network, frames)).max()
print(winograd_kernels.LANES, "well" if difference < 1e-4 else difference)
