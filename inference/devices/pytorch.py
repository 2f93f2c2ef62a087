"""The CPU engine that serves every network: PyTorch with oneDNN's convolutions, in float32 or bfloat16."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.architectures.layers import ConvRelu
from inference.bundle import Bundle
from inference.devices import DeviceError, Engine
from inference.devices.replace import replace_layers
from inference.devices.staging import Staging
from inference.devices.texts import optimise_text_layers
from inference.manifest import Precision
from inference.served_module import PRECISIONS, served_module


def load(bundle: Bundle, precision: Precision, max_batch: int, threads: int) -> Engine:
    """Pack the weights of a bundle's network. The number of PyTorch's threads is a setting of the whole process.

    Raises `DeviceError`.
    """
    torch.set_num_threads(threads)
    frame = bundle.manifest.input
    return PyTorchEngine(pack(served_module(bundle), precision), frame.shape, frame.dtype, max_batch)


class PyTorchEngine(Staging):
    """A module; `collect` runs it."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], dtype: str, max_batch: int) -> None:
        super().__init__(max_batch, shape, dtype)
        self._module = module

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Classify the batch."""
        with torch.inference_mode():
            answers: NDArray[np.float32] = self._module(torch.from_numpy(self.launched(slot))).numpy()
        return answers


class OneDnnConvRelu(nn.Module):
    """A `ConvRelu` with weights in oneDNN's own layout and a fused ReLU.

    It uses the two operators that `torch.compile` generates for frozen CPU models. Input and output as `ConvRelu`'s,
    the output in `dtype`.
    """

    def __init__(self, convolution: ConvRelu, dtype: torch.dtype) -> None:
        super().__init__()
        self._weight = convolution.weight.detach().unsqueeze(2).to(dtype)
        self._window = (convolution.both_sides, [1, 1], [1, 1])  # padding, stride, dilation
        self._bias = convolution.bias.detach().to(dtype)
        self._dtype = dtype
        self._is_packed = False

    def forward(self, x: Tensor) -> Tensor:
        """The same as the convolution's own."""
        if not self._is_packed:
            # Only now is the input's size known. Without it oneDNN guesses a layout, wrongly on processors without
            # AVX512, and then packs again in each call, in 20 ms.
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(self._weight, *self._window, 1, list(x.shape))
            self._is_packed = True
        result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x.to(self._dtype), self._weight, self._bias, *self._window, 1, "relu", [], ""
        )
        return result


class LstmIn(nn.Module):
    """An LSTM in `dtype`. PyTorch passes an LSTM to oneDNN, but not a GRU, for which only float32 is worthwhile."""

    def __init__(self, lstm: nn.LSTM, dtype: torch.dtype) -> None:
        super().__init__()
        self._lstm = lstm.to(dtype)
        self._dtype = dtype

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The same as the LSTM's own, with float32 outputs."""
        outputs, state = self._lstm(x.to(self._dtype))
        return outputs.float(), state


def pack(module: nn.Module, precision: Precision) -> nn.Module:
    """Replace a network's layers by faster ones; raises `DeviceError`."""
    optimise_text_layers(module)
    if _has_packed_convolution():
        replace_layers(module, ConvRelu, lambda convolution: OneDnnConvRelu(convolution, PRECISIONS[precision]))
        replace_layers(module, nn.LSTM, lambda lstm: LstmIn(lstm, PRECISIONS[precision]))
    elif precision != "float32":
        raise DeviceError(f"this PyTorch {torch.__version__} lacks oneDNN: choose precision float32")
    return module


def _has_packed_convolution() -> bool:
    found: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return found and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
