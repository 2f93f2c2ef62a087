"""The CPU: oneDNN's convolutions with weights packed once and the ReLU inside, in the caller's thread.

Chosen by measurement (benchmarks/inference.py prints it anew): against the same network called as it is, packing
halves the time of a single frame and gains a third on large batches. `torch.jit`'s frozen graphs, as fast on large
batches only, are deprecated, and `torch.compile` needs a C++ compiler where the worker runs. For texts see `texts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.architectures.layers import ConvRelu
from inference.bundle import PRECISIONS, Precision
from inference.devices import SLOTS, DeviceError, Engine
from inference.devices.replace import replace_layers
from inference.devices.texts import speed_up_texts

# oneDNN compiles a kernel for each batch size that it meets, in 1 to 5 ms: the small ones, which light load makes
# over and over, are met before serving.
WARM_BATCHES = 16


class CpuDevice:
    """Computes in the thread that collects, with `threads` threads of PyTorch's (a setting of the process)."""

    name = "cpu"

    def __init__(self, precision: Precision | Literal["auto"] = "auto", threads: int = 1) -> None:
        if precision == "bfloat16" and not _has_native_bfloat16():
            raise DeviceError("this CPU computes bfloat16 only by emulation: choose precision float32")
        self.precisions: Sequence[Precision] = ("float32",) if precision == "auto" else (precision,)
        torch.set_num_threads(threads)

    def load(
        self, module: nn.Module, precision: Precision, shape: tuple[int, ...], dtype: str, max_batch: int
    ) -> Engine:
        """Pack what can be packed, and meet the batch sizes of light load."""
        speed_up_texts(module)
        if _has_packed_convolution():
            replace_layers(module, ConvRelu, lambda convolution: OneDnnConvRelu(convolution, PRECISIONS[precision]))
            replace_layers(module, nn.LSTM, lambda lstm: LstmIn(lstm, PRECISIONS[precision]))
        elif precision != "float32":
            raise DeviceError(f"this PyTorch {torch.__version__} lacks oneDNN: choose precision float32")
        engine = CpuEngine(module, shape, dtype, max_batch)
        for frames in (*range(1, min(WARM_BATCHES, max_batch) + 1), max_batch):
            engine.launch(0, frames)
            engine.collect(0)
        return engine


class CpuEngine:
    """A module and two arrays; the work is done in `collect`, so that answers go out before it starts."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], dtype: str, max_batch: int) -> None:
        self._module = module
        self._staging = [np.zeros((max_batch, *shape), dtype) for _ in range(SLOTS)]
        self._inputs = [torch.from_numpy(array) for array in self._staging]
        self._frames = [0] * SLOTS

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's input array."""
        return self._staging[slot]

    def launch(self, slot: int, frames: int) -> None:
        """Note the batch; there is nobody else to begin it."""
        self._frames[slot] = frames

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Classify the batch."""
        with torch.inference_mode():
            answers: NDArray[np.float32] = self._module(self._inputs[slot][: self._frames[slot]]).numpy()
        return answers


class OneDnnConvRelu(nn.Module):
    """A `ConvRelu` with its weights in oneDNN's own layout and the ReLU in the same pass.

    It uses the two operators that `torch.compile` itself generates for frozen CPU models. Input and output as
    `ConvRelu`'s, the output in `dtype`.
    """

    def __init__(self, convolution: ConvRelu, dtype: torch.dtype) -> None:
        super().__init__()
        weight = convolution.weight.detach().unsqueeze(2).to(dtype)
        self._window = (convolution.both_sides, [1, 1], [1, 1])  # padding, stride, dilation
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._window, 1)
        self._bias = convolution.bias.detach().to(dtype)
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's own."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x.to(self._dtype), self._weight, self._bias, *self._window, 1, "relu", [], ""
        )
        return result


class LstmIn(nn.Module):
    """An LSTM in `dtype`. PyTorch gives it to oneDNN by itself; a GRU it does not, so that only float32 pays there."""

    def __init__(self, lstm: nn.LSTM, dtype: torch.dtype) -> None:
        super().__init__()
        self._lstm = lstm.to(dtype)
        self._dtype = dtype

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As the LSTM's own, with float32 outputs."""
        outputs, state = self._lstm(x.to(self._dtype))
        return outputs.float(), state


def _has_packed_convolution() -> bool:
    found: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return found and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _has_native_bfloat16() -> bool:
    # Elsewhere it would be emulated, slower than float32. Older versions of PyTorch can't tell: no, then.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))
