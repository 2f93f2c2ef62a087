"""A GPU: pinned staging arrays, a stream for the copies, and a captured CUDA graph for each of several batch sizes.

Launching a small network kernel by kernel costs more than running it: a captured graph is one launch. A graph has a
fixed batch size, so a batch is padded up to the next of a few sizes, the buckets (`batch_buckets`). The bucketing and
the two slots (`BucketedEngine`) are plain Python; only `_CudaSlot` and `CudaDevice` need CUDA.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.architectures.layers import ConvRelu
from inference.bundle import Bundle
from inference.devices import SLOTS, DeviceError, DeviceLostError, DeviceMemoryError, Engine
from inference.devices.replace import replace_layers
from inference.manifest import Precision
from inference.served_module import PRECISIONS, served_module

# A process may capture only one graph at a time, even for different cores.
_CAPTURING = threading.Lock()

# How PyTorch's libraries report that the GPU has no memory, other than by `torch.OutOfMemoryError`.
NO_MEMORY = ("out of memory", "ALLOC_FAILED")

# cuDNN picks its algorithms and allocates its workspaces in the first calls, which must not be captured.
WARM_UP_RUNS = 3


def is_available() -> bool:
    """Return whether PyTorch finds a usable GPU."""
    return torch.cuda.is_available()


def batch_buckets(max_batch: int) -> tuple[int, ...]:
    """Return the batch sizes that get a graph: multiples of eight, each half as large again, up to `max_batch`.

    Below eight frames a smaller batch is no faster on a GPU. Above, padding is less than half of the work, and no more
    than about a third in the larger buckets.
    """
    buckets = []
    bucket = 8
    while bucket < max_batch:
        buckets.append(bucket)
        bucket = -(-(bucket * 3 // 2) // 8) * 8
    return (*buckets, max_batch)


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """Raise PyTorch's errors as the two kinds that the core distinguishes: `DeviceMemoryError` and `DeviceLostError`.

    `torch.OutOfMemoryError` and `torch.AcceleratorError` are `RuntimeError`s, as are cuDNN's and cuBLAS's. A GPU error
    is final for the process: CUDA answers every later call with the same error.
    """
    try:
        yield
    except RuntimeError as error:
        device_error = as_device_error(error)
        if isinstance(device_error, DeviceMemoryError):
            for each in _with_contexts(error):  # these stack frames keep the attempt's allocations alive
                traceback.clear_frames(each.__traceback__)
        raise device_error from error


def as_device_error(error: RuntimeError) -> DeviceError:
    """Classify an error: may a smaller batch help? The text is the first line of PyTorch's; the rest is advice."""
    for each in _with_contexts(error):
        if isinstance(each, torch.OutOfMemoryError) or any(words in str(each) for words in NO_MEMORY):
            return DeviceMemoryError(f"the GPU has no memory for it: {_first_line(each)}")
    return DeviceLostError(f"the GPU has failed: {_first_line(error)}")


def _with_contexts(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its contexts: if memory runs out during a graph capture, ending the capture fails too."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__context__


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


class Slot(Protocol):
    """The memory of one slot, and the steps of a batch in it."""

    @property
    def staging(self) -> NDArray[Any]:
        """The input array, (max_batch, *frame shape)."""

    def run(self, frames: int, bucket: int) -> None:
        """Start copying `bucket` rows to the device, running that bucket's graph, and copying `frames` answers back."""

    def wait(self) -> NDArray[np.float32]:
        """Wait for the answers, (max_batch, columns); the next run overwrites them."""


class BucketedEngine:
    """Two slots, and batches padded up to the next bucket.

    A padding row holds what the slot held before, or zeros: finite values, whose answers nobody reads.
    """

    def __init__(self, slots: Sequence[Slot], buckets: Sequence[int]) -> None:
        self._slots = slots
        self._buckets = buckets
        self._frames = [0] * len(slots)

    def staging(self, slot: int) -> NDArray[Any]:
        """Return the slot's pinned input array."""
        return self._slots[slot].staging

    def launch(self, slot: int, frames: int) -> None:
        """Queue the batch's copies and its graph on the device, and return."""
        bucket = self._buckets[bisect.bisect_left(self._buckets, frames)]
        self._frames[slot] = frames
        with device_errors():
            self._slots[slot].run(frames, bucket)

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Wait for the batch and copy its answers out of the pinned memory."""
        with device_errors():
            return self._slots[slot].wait()[: self._frames[slot]].copy()


class CudaDevice:
    """The first GPU that CUDA shows (`CUDA_VISIBLE_DEVICES` chooses)."""

    name = "cuda"

    def __init__(self, precision: Precision | Literal["auto"] = "auto") -> None:
        if precision == "int8":
            raise DeviceError("int8 is for CPUs alone: choose device cpu, or another precision")
        if not is_available():
            raise DeviceError(
                f"PyTorch {torch.__version__} finds no CUDA device: choose device cpu or auto, or install a build "
                f"of PyTorch and a driver that fit"
            )
        self.precisions: Sequence[Precision] = ("bfloat16", "float32") if precision == "auto" else (precision,)

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        """Move the bundle's network to the GPU and capture its graphs."""
        module: nn.Module = served_module(bundle)
        replace_layers(module, ConvRelu, lambda convolution: CudnnConvRelu(convolution, PRECISIONS[precision]))
        buckets = batch_buckets(max_batch)
        example = np.zeros((max_batch, *bundle.manifest.input.shape), bundle.manifest.input.dtype)
        with device_errors():
            module = module.to("cuda")
            streams = _Streams()
            slots = [_CudaSlot(module, example, streams) for _ in range(SLOTS)]
            with _CAPTURING, _float32_means_float32():
                for slot in slots:
                    slot.capture(buckets)
        return BucketedEngine(slots, buckets)


class CudnnConvRelu(nn.Module):
    """A `ConvRelu` in `dtype`, whose weights are channels last too, as tensor cores need them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: ConvRelu, dtype: torch.dtype) -> None:
        super().__init__()
        weight = convolution.weight.detach().unsqueeze(2).to(dtype)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", convolution.bias.detach().to(dtype))
        self._both_sides = convolution.both_sides
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """The same as the convolution's own."""
        return torch.relu_(F.conv2d(x.to(self._dtype), self.weight, self.bias, padding=self._both_sides))


class _Streams:
    """Shared by an engine's slots: a stream for copies in, one for the graphs, and the graphs' memory pool.

    Graphs of one pool may overwrite each other's intermediate results, so they all run on the one stream, in turn.
    """

    def __init__(self) -> None:
        self.upload = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.compute = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()


class _CudaSlot:
    """One slot: pinned host arrays, device arrays of the same shapes, and the graphs."""

    def __init__(self, module: nn.Module, example: NDArray[Any], streams: _Streams) -> None:
        self._module = module
        self._streams = streams
        self._host_input = torch.from_numpy(example).pin_memory()
        self._input = self._host_input.to("cuda")
        with torch.inference_mode():
            answers = module(self._input).shape
        # Made outside of inference mode, which would forbid writing to them outside of it.
        self._output = torch.zeros(answers, device="cuda")
        self._host_output = torch.zeros(answers).pin_memory()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # A blocking event sleeps instead of spinning, which leaves the CPU to the Kafka client.
        self._answered = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.staging: NDArray[Any] = self._host_input.numpy()
        self._answers: NDArray[np.float32] = self._host_output.numpy()

    def capture(self, buckets: Sequence[int]) -> None:
        """Capture a graph for each bucket, largest first, so that the smaller ones fit in its memory."""
        torch.cuda.synchronize()
        for bucket in reversed(buckets):
            with torch.inference_mode(), torch.cuda.stream(self._streams.compute):
                for _ in range(WARM_UP_RUNS):
                    self._classify(bucket)
            graph = torch.cuda.CUDAGraph()
            # Thread-local: another model may be serving from another thread meanwhile.
            with (
                torch.inference_mode(),
                torch.cuda.graph(
                    graph,
                    pool=self._streams.pool,
                    stream=self._streams.compute,
                    capture_error_mode="thread_local",
                ),
            ):
                self._classify(bucket)
            self._graphs[bucket] = graph
        torch.cuda.synchronize()

    def run(self, frames: int, bucket: int) -> None:
        """Copy in while the previous batch runs, then compute and copy out after it."""
        with torch.cuda.stream(self._streams.upload):
            self._input[:bucket].copy_(self._host_input[:bucket], non_blocking=True)
            self._uploaded.record()
        with torch.cuda.stream(self._streams.compute):
            self._streams.compute.wait_event(self._uploaded)
            self._graphs[bucket].replay()
            self._host_output[:frames].copy_(self._output[:frames], non_blocking=True)
            self._answered.record()

    def wait(self) -> NDArray[np.float32]:
        """Wait for the answers; the device's errors surface here."""
        self._answered.synchronize()
        return self._answers

    def _classify(self, bucket: int) -> None:
        # Into the slot's own memory: what a graph allocates belongs to the pool, and the next graph may overwrite it.
        self._output[:bucket].copy_(self._module(self._input[:bucket]))


@contextlib.contextmanager
def _float32_means_float32() -> Iterator[None]:
    """Let cuDNN choose the fastest algorithms, but not TF32, which has 10 bits instead of float32's 23."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield
