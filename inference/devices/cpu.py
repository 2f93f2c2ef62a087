"""The CPU, in the caller's thread, by one of several engines; `engine_choice` measures which one is the fastest.

    winograd    `har-cnn` in float32 by kernels of our own that multiply less (`winograd`)
    openvino    `har-cnn` in float32 or bfloat16, where the package is installed (`openvino`)
    pytorch     everything, in float32 or bfloat16: oneDNN's convolutions with weights packed once and the ReLU inside

bfloat16 is for processors that compute in it; elsewhere it would be emulated. For texts, which are PyTorch's, see
`texts.py`. What else was tried is in benchmarks/tried.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.architectures.har import HarCnn
from inference.architectures.layers import ConvRelu
from inference.bundle import PRECISIONS, Bundle, Precision, served_module
from inference.devices import SLOTS, DeviceError, Engine, EngineName, openvino
from inference.devices.replace import replace_layers
from inference.devices.texts import speed_up_texts
from inference.engine_choice import Choice, Measurement, choose
from inference.served import Served

# oneDNN and OpenVINO compile kernels for each batch size that they meet, in 1 to 5 ms: the small ones, which light
# load makes over and over, are met before serving.
WARM_BATCHES = 16


class CpuDevice:
    """Computes in the thread that collects, with `threads` threads (PyTorch's are a setting of the process).

    With a `measurement`, `auto` stands for what is measured to be the fastest; without, for float32 by `winograd`, or
    by PyTorch for networks that it doesn't know. Networks that the `engine` doesn't know are PyTorch's in any case.
    Raises `DeviceError`.
    """

    name = "cpu"

    def __init__(
        self,
        precision: Precision | Literal["auto"] = "auto",
        threads: int = 1,
        engine: EngineName | Literal["auto"] = "auto",
        measurement: Measurement | None = None,
    ) -> None:
        if precision == "bfloat16" and not _has_native_bfloat16():
            raise DeviceError("this CPU computes bfloat16 only by emulation: choose precision float32")
        if engine == "winograd" and precision == "bfloat16":
            raise DeviceError("the engine winograd computes in float32: choose another engine, or precision float32")
        if engine == "openvino" and (missing := openvino.missing()):
            raise DeviceError(f"{missing}, or choose another engine")
        self.precisions: Sequence[Precision] = ("float32",) if precision == "auto" else (precision,)
        self._threads = threads
        self._measurement = measurement
        self._engines: Sequence[EngineName] = (engine,) if engine != "auto" else ("winograd",)
        self._offered: Sequence[Precision] = self.precisions
        self._falls_back = engine == "auto"
        if measurement is not None and engine == "auto":
            self._engines = ("winograd", "pytorch") if openvino.missing() else ("winograd", "openvino", "pytorch")
        if measurement is not None and precision == "auto" and _has_native_bfloat16():
            self._offered = ("float32", "bfloat16")
        torch.set_num_threads(threads)

    def load(
        self, module: nn.Module, precision: Precision, shape: tuple[int, ...], dtype: str, max_batch: int
    ) -> Engine:
        """Prepare the first engine that serves `module` at `precision`, and meet the batch sizes of light load."""
        engine: EngineName = next((name for name in self._engines if _serves(name, precision, module)), "pytorch")
        return CpuWay(engine, precision, self._threads).load(module, precision, shape, dtype, max_batch)

    def choose(self, bundle: Bundle, max_batch: int) -> Choice:
        """Return the ways to serve a bundle, the best first; measures if there is something to choose from."""
        module = served_module(bundle)
        plain = CpuWay("pytorch", self._offered[0], self._threads)
        ways = [
            CpuWay(engine, precision, self._threads)
            for precision in self._offered
            for engine in self._engines
            if _serves(engine, precision, module)
        ]
        if self._falls_back or not ways:
            ways = [*(way for way in ways if way != plain), plain]
        if self._measurement is None or len(ways) == 1:
            return Choice(ways)
        return choose(bundle, ways, max_batch, self._threads, self._measurement)


@dataclass(frozen=True, slots=True)
class CpuWay:
    """A device that has one engine and one precision."""

    engine: EngineName
    precision: Precision
    threads: int = 1
    name = "cpu"

    @property
    def precisions(self) -> Sequence[Precision]:
        """The one."""
        return (self.precision,)

    def load(
        self, module: nn.Module, precision: Precision, shape: tuple[int, ...], dtype: str, max_batch: int
    ) -> Engine:
        """Prepare and warm the engine."""
        if self.engine == "openvino":
            engine: Engine = openvino.load(module, precision, shape, dtype, max_batch, self.threads)
        elif self.engine == "winograd":
            engine = _load_winograd(module, max_batch, self.threads)
        else:
            engine = CpuEngine(_pack(module, precision), shape, dtype, max_batch)
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
        self._weight = convolution.weight.detach().unsqueeze(2).to(dtype)
        self._window = (convolution.both_sides, [1, 1], [1, 1])  # padding, stride, dilation
        self._bias = convolution.bias.detach().to(dtype)
        self._dtype = dtype
        self._is_packed = False

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's own."""
        if not self._is_packed:
            # Only now is the input's size known, without which oneDNN guesses a layout. On processors without AVX512
            # it guesses wrong, and then packs anew in each call, for 20 ms.
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(self._weight, *self._window, 1, list(x.shape))
            self._is_packed = True
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


def _pack(module: nn.Module, precision: Precision) -> nn.Module:
    speed_up_texts(module)
    if _has_packed_convolution():
        replace_layers(module, ConvRelu, lambda convolution: OneDnnConvRelu(convolution, PRECISIONS[precision]))
        replace_layers(module, nn.LSTM, lambda lstm: LstmIn(lstm, PRECISIONS[precision]))
    elif precision != "float32":
        raise DeviceError(f"this PyTorch {torch.__version__} lacks oneDNN: choose precision float32")
    return module


def _load_winograd(module: nn.Module, max_batch: int, threads: int) -> Engine:
    if not (isinstance(module, Served) and isinstance(module.network, HarCnn)):
        raise DeviceError("the engine winograd serves har-cnn alone: choose engine auto or pytorch")
    try:
        from inference.devices.winograd import WinogradEngine  # late: texts need no compiler

        return WinogradEngine(module, module.network, max_batch, threads)
    except Exception as error:  # whatever a compiler may say of a processor that it doesn't know
        raise DeviceError(f"the engine winograd can't be compiled here: {error}; choose engine pytorch") from error


def _serves(engine: EngineName, precision: Precision, module: nn.Module) -> bool:
    """Tell whether an engine knows a network and computes at a precision."""
    if engine == "pytorch":
        return True
    return any(isinstance(part, HarCnn) for part in module.modules()) and (
        engine == "openvino" or precision == "float32"
    )


def _has_packed_convolution() -> bool:
    found: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return found and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _has_native_bfloat16() -> bool:
    # Elsewhere it would be emulated, slower than float32. Older versions of PyTorch can't tell: no, then.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))
