"""`har-cnn` by OpenVINO, if installed: fast on CPUs with matrix units, in bfloat16 or int8.

The graph is built here rather than converted from PyTorch, so nothing is traced at start. The package is imported only
when needed, and without its telemetry package.

At int8, the convolutions after the first multiply integers and accumulate in 32 bits; everything else is float32. Their
inputs, after a ReLU, are quantised to 256 steps up to the bundle's range; weights to 255 steps about 0, by output
channel. (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018; by channel as Wu et al., "Integer Quantization for Deep Learning Inference", 2020, recommend.)
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.devices import DeviceError, Engine
from inference.devices.staging import Staging
from inference.manifest import Precision

REPORTER = "openvino_telemetry"
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
STEPS = 256


def missing() -> str:
    """Return what to install if OpenVINO is missing, or an empty text."""
    if importlib.util.find_spec("openvino") is not None:
        return ""
    return "the engine openvino needs the package of that name: pip install '.[openvino]' in the checkout"


def load(bundle: Bundle, precision: Precision, max_batch: int, threads: int) -> Engine:
    """Compile the graph of a `har-cnn` bundle for any batch size.

    Raises `DeviceError`.
    """
    if bundle.manifest.architecture.name != "har-cnn":
        if precision == "int8":
            raise DeviceError(
                f"int8 is for har-cnn alone, and {bundle.title} is {bundle.manifest.architecture.name}: choose another "
                "precision, in a process of its own if another model is to be served at int8"
            )
        raise DeviceError("the engine openvino serves har-cnn alone: choose engine auto or pytorch")
    if precision == "int8" and bundle.manifest.activation_ranges is None:
        raise DeviceError(
            f"{bundle.title} has no activation_ranges, without which it can't be served at int8: choose another "
            "precision, or fit it anew by stridecast train activity"
        )
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # it would pin to the core where records are read
    }
    try:
        package = _import()
        compiled = package.Core().compile_model(_graph(package, bundle, precision), "CPU", settings)
    except (RuntimeError, ImportError, OSError) as error:
        said = str(error).strip().rpartition("\n")[2]
        raise DeviceError(f"OpenVINO can't serve this network here: {said}; choose engine auto or pytorch") from error
    return OpenVinoEngine(package, compiled, bundle.manifest.input.shape, max_batch)


class OpenVinoEngine(Staging):
    """A compiled graph; `collect` runs it, and reads the frames in place."""

    def __init__(self, package: Any, compiled: Any, shape: tuple[int, ...], max_batch: int) -> None:
        super().__init__(max_batch, shape)
        self._tensor = package.Tensor
        self._request = compiled.create_infer_request()

    def collect(self, slot: int) -> NDArray[np.float32]:
        """Classify the batch; the answers are copied out of the request's memory."""
        self._request.set_input_tensor(self._tensor(self.launched(slot), shared_memory=True))
        self._request.infer()
        answers: NDArray[np.float32] = self._request.get_output_tensor().data.copy()
        return answers


def _import() -> Any:
    """Import OpenVINO without its telemetry package, which would send an event on import."""
    there = sys.modules.get(REPORTER)
    sys.modules[REPORTER] = None  # type: ignore[assignment]  # stands for one that can't be imported
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[REPORTER]
        if there is not None:
            sys.modules[REPORTER] = there


def _graph(package: Any, bundle: Bundle, precision: Precision) -> Any:
    ops, weights, manifest = package.opset13, bundle.weights, bundle.manifest
    ranges = (manifest.activation_ranges or {}) if precision == "int8" else {}

    def constant(values: Any) -> Any:
        return ops.constant(np.asarray(values, np.float32))

    def in_steps(x: Any, low: Any, high: Any) -> Any:
        ends = constant(low), constant(high)
        return ops.fake_quantize(x, *ends, *ends, STEPS)

    def taken_by(name: str, x: Any) -> Any:
        return in_steps(x, 0.0, ranges[name]) if name in ranges else x

    def convolution(x: Any, name: str) -> Any:
        weight = constant(weights[f"{name}.weight"])
        if name in ranges:
            largest = np.abs(weights[f"{name}.weight"]).max(axis=(1, 2), keepdims=True)
            # From -128 to 127 steps, by which OpenVINO recognises int8; no weight is below -127.
            weight = in_steps(weight, largest * (-128 / 127), largest)
        sums = ops.convolution(x, weight, [1], [0], [0], [1])
        return ops.relu(ops.add(sums, constant(weights[f"{name}.bias"].reshape(1, -1, 1))))

    frames = x = ops.parameter([-1, *manifest.input.shape], np.float32)
    if manifest.normalisation is not None:
        scale = 1 / np.array(manifest.normalisation.std, np.float32)
        x = ops.multiply(ops.subtract(x, constant(manifest.normalisation.mean)), constant(scale))
    x = ops.transpose(x, ops.constant(np.array([0, 2, 1])))
    x = convolution(taken_by("conv2", convolution(x, "conv1")), "conv2")
    # Quantising and max pooling commute. Quantised before the pooling, the convolution itself outputs steps.
    x = ops.max_pool(taken_by("conv3", x), [3], [1], [0], [0], [3]).output(0)
    x = convolution(taken_by("conv4", convolution(x, "conv3")), "conv4")
    x = ops.reduce_mean(x, ops.constant(np.array([2])), keep_dims=False)
    x = ops.matmul(x, constant(weights["output.weight"]), transpose_a=False, transpose_b=True)
    x = ops.add(x, constant(weights["output.bias"]))
    answers = ops.softmax(ops.multiply(x, constant(1 / manifest.temperature)), 1)
    if manifest.tells_strangers:
        answers = ops.concat([answers, _familiarity(ops, x)], 1)
    return package.Model([answers], [frames], "har-cnn")


def _familiarity(ops: Any, logits: Any) -> Any:
    """Return the sigmoid of the logsumexp of the logits, computed without overflow."""
    classes = ops.constant(np.array([1]))
    largest = ops.reduce_max(logits, classes, keep_dims=True)
    total = ops.reduce_sum(ops.exp(ops.subtract(logits, largest)), classes, keep_dims=True)
    return ops.sigmoid(ops.add(ops.log(total), largest))
