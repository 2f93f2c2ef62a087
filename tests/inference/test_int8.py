"""int8: what it computes, where it is had, and what is said where it isn't."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inference.bundle import Bundle, find_bundle, load_bundle
from inference.core import Core
from inference.device_choice import choose_device
from inference.devices import DeviceError, EngineName, answer, cpu, openvino
from inference.engine_choice import Measurement
from inference.manifest import GoldenError
from inference.models import load_model
from inference.saving import save_bundle
from inference.served_module import reference_answers, reference_probabilities, served_module
from tests.inference.bundles import decided_network, har_bundle, har_description, people, text_bundle
from tests.inference.devices import needs_int8, needs_openvino
from tests.inference.fakes import PATIENCE_S, Clock, Receiver


def with_ranges(bundle: Bundle, **ranges: float) -> Bundle:
    """The bundle with some of its ranges changed."""
    changed = (bundle.manifest.activation_ranges or {}) | ranges
    return dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"activation_ranges": changed}))


# -- what it computes


def in_whole_steps(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    """The probabilities (n, 6) of a bundle, its three quantised layers written out in PyTorch's plain operations."""
    manifest, ranges = bundle.manifest, bundle.manifest.activation_ranges
    assert ranges is not None
    assert manifest.normalisation is not None
    weights = {name: torch.from_numpy(values) for name, values in bundle.weights.items()}

    def layer(x: Tensor, name: str) -> Tensor:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if name not in ranges:
            return F.relu(F.conv1d(x, kernel, bias))
        step = ranges[name] / 255
        steps = (x / step).round().clamp(0, 255).double()
        channel = kernel.abs().amax(dim=(1, 2), keepdim=True) / 127
        sums = F.conv1d(steps, (kernel / channel).round().double())  # whole numbers, exactly
        return F.relu((sums * step * channel.double().reshape(-1, 1)).float() + bias.reshape(-1, 1))

    x = torch.from_numpy(frames) - torch.tensor(manifest.normalisation.mean)
    x = (x / torch.tensor(manifest.normalisation.std)).transpose(1, 2)
    x = F.max_pool1d(layer(layer(x, "conv1"), "conv2"), 3)
    x = layer(layer(x, "conv3"), "conv4").mean(dim=2)
    logits = x @ weights["output.weight"].T + weights["output.bias"]
    return torch.softmax(logits / manifest.temperature, dim=1).numpy()


@needs_openvino
@needs_int8
def test_three_convolutions_are_of_whole_numbers_by_layer_and_by_output_channel(har: Bundle) -> None:
    """Nearer to plain arithmetic in steps than that is to float32: a step more or less at a tie is all that differs."""
    coarse = with_ranges(har, conv2=2.0, conv3=14.0, conv4=8.0)
    frames = people(100, seed=4)
    expected, exact = in_whole_steps(coarse, frames), reference_probabilities(served_module(har), frames)
    found = answer(openvino.load(coarse, "int8", 100, 1), frames, 100)

    assert np.abs(expected - exact).max() > 0.02
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.002)


@needs_openvino
@needs_int8
def test_those_convolutions_take_bytes_in_the_processor_too(har: Bundle) -> None:
    """OpenVINO may as well compute rounded numbers in float32, at nothing but a loss."""
    engine = openvino.load(har, "int8", 4, 1)
    compiled = engine._request.get_compiled_model()  # type: ignore[attr-defined]
    layers = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    kinds = [(layer["layerType"].value, layer["runtimePrecision"].value) for layer in layers]

    assert sorted(precision for kind, precision in kinds if kind == "Convolution") == ["f32", "u8", "u8", "u8"]
    assert not [kind for kind, _ in kinds if kind == "FakeQuantize"]


@needs_openvino
@needs_int8
def test_the_shipped_model_keeps_its_golden_answers_at_int8() -> None:
    bundle = load_bundle(find_bundle("har-cnn"))
    model = load_model(bundle, choose_device("cpu", "int8"), max_batch=32)
    frames = people(32, seed=8)

    assert (model.precision, model.way, model.passed_over) == ("int8", "openvino", ())
    for count in (1, 2, 7, 32):
        answers = answer(model.engine, frames[:count], 32)
        expected = reference_answers(served_module(bundle), frames[:count])
        np.testing.assert_allclose(answers, expected, rtol=0, atol=bundle.manifest.golden.tolerance.int8)
        assert answers.shape == (count, 7)


@needs_openvino
@needs_int8
@pytest.mark.parametrize("wrong", [{"conv2": 0.5}, {"conv3": 4.0}, {"conv3": 200.0}, {"conv2": 12.23, "conv4": 3.5}])
def test_ranges_of_another_network_miss_the_golden_answers(wrong: dict[str, float]) -> None:
    bundle = with_ranges(load_bundle(find_bundle("har-cnn")), **wrong)

    with pytest.raises(GoldenError, match=r"at int8 the model misses its golden .* choose another precision$"):
        load_model(bundle, choose_device("cpu", "int8"), max_batch=4)


@needs_openvino
@needs_int8
def test_a_channel_without_weights_is_served_too(tmp_path: Path) -> None:
    network = decided_network()
    network.get_parameter("conv2.weight").data[3].zero_()
    bundle = save_bundle(tmp_path / "sparse", network, har_description(), people(4))
    answers = answer(load_model(bundle, choose_device("cpu", "int8"), max_batch=8).engine, people(8), 8)

    np.testing.assert_allclose(answers, reference_probabilities(served_module(bundle), people(8)), rtol=0, atol=0.05)


# -- where it is had


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has int8, and OpenVINO beside it."""
    monkeypatch.setattr(cpu, "_has_native_int8", lambda: True)
    monkeypatch.setattr(openvino, "missing", lambda: "")


def ways(bundle: Bundle, precision: str, engine: str = "auto") -> list[str]:
    device = choose_device("cpu", precision, engine=engine)  # type: ignore[arg-type]
    assert isinstance(device, cpu.CpuDevice)
    return [f"{way.engine} {way.precision}" for way in device.choose(bundle, 8).ways]


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_int8_is_openvinos_and_nothing_stands_in_for_it(har: Bundle, engine: str) -> None:
    assert ways(har, "int8", engine) == ["openvino int8"]


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("engine", ["auto", "openvino", "winograd", "pytorch"])
def test_auto_never_takes_int8(har: Bundle, monkeypatch: pytest.MonkeyPatch, engine: EngineName) -> None:
    measured: list[str] = []
    monkeypatch.setattr(cpu, "choose", lambda _, found, *__: measured.extend(way.precision for way in found))
    monkeypatch.setattr(cpu, "_has_native_bfloat16", lambda: True)
    cpu.CpuDevice(engine=engine, measurement=Measurement(Clock())).choose(har, 8)

    assert "int8" not in [*measured, *cpu.CpuDevice(engine=engine).precisions]


@needs_openvino
@needs_int8
def test_one_way_alone_is_measured_when_it_is_to_be_measured_anew(har: Bundle, tmp_path: Path) -> None:
    """`stridecast models --measure` said nothing of the one way that the settings leave."""
    clock = iter(range(10_000))
    for anew, measured in ((False, []), (True, ["openvino at int8"])):
        measurement = Measurement(lambda: float(next(clock)), tmp_path, anew=anew)
        model = load_model(har, choose_device("cpu", "int8", measurement=measurement), 4)
        assert model.choice is not None
        assert [each.title for each in model.choice.measured] == measured


# -- where it isn't


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("engine", ["winograd", "pytorch"])
def test_engines_without_int8_are_refused(engine: EngineName) -> None:
    with pytest.raises(DeviceError, match=f"^the engine {engine} doesn't compute in int8: choose engine openvino, or"):
        choose_device("cpu", "int8", engine=engine)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_without_openvino_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, engine: EngineName) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(cpu, "_has_native_int8", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(
        DeviceError, match=r"pip install '\.\[openvino\]' in the checkout, or choose another precision$"
    ):
        choose_device("cpu", "int8", engine=engine)


@pytest.mark.parametrize(
    ("features", "has"),
    [
        ({"avx2": True, "avx512f": True, "avx512vnni": False}, False),
        ({}, False),
        ({"avx512vnni": True}, True),
        ({"avxvnni": True}, True),
        ({"amx-int8": True}, True),
    ],
)
def test_int8_is_refused_where_the_cpu_would_emulate_it(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], has: bool
) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    monkeypatch.setattr(openvino, "missing", lambda: "")

    if has:
        assert choose_device("cpu", "int8").precisions == ("int8",)
    else:
        with pytest.raises(DeviceError, match=r"no instructions for int8 \(AVX512-VNNI, .*\): choose precision auto$"):
            choose_device("cpu", "int8")


def test_a_gpu_is_no_place_for_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.device_choice.may_have_gpu", lambda: True)
    monkeypatch.setattr("inference.devices.cuda.is_available", lambda: True)

    devices: list[Literal["auto", "cuda"]] = ["auto", "cuda"]
    for device in devices:
        with pytest.raises(DeviceError, match=r"^int8 is for CPUs alone: choose device cpu, or another precision$"):
            choose_device(device, "int8")


@pytest.mark.usefixtures("able")
def test_other_networks_are_refused_and_not_served_at_another_precision(tmp_path: Path, pairs: Bundle) -> None:
    for bundle, network in ((text_bundle(tmp_path / "text"), "text-cnn"), (pairs, "constant")):
        with pytest.raises(DeviceError, match=f"^int8 is for har-cnn alone, and {bundle.title} is {network}: choose"):
            load_model(bundle, choose_device("cpu", "int8"), max_batch=4)


@pytest.mark.usefixtures("able")
def test_a_bundle_without_ranges_is_refused(tmp_path: Path) -> None:
    """As those are that were fitted before there was int8."""
    bundle = har_bundle(tmp_path / "old", activation_ranges=None)

    with pytest.raises(DeviceError, match=r"^tiny-har@1\.0 has no activation_ranges, .* anew by stridecast train"):
        load_model(bundle, choose_device("cpu", "int8"), max_batch=4)


@needs_openvino
@needs_int8
def test_a_bundle_without_ranges_that_is_swapped_in_leaves_the_old_one_serving(har: Bundle, tmp_path: Path) -> None:
    received = Receiver()
    core = Core(choose_device("cpu", "int8"), max_batch=8, clock=Clock(), deliver=received)
    lane = core.open(har)
    core.start()
    with pytest.raises(DeviceError, match="has no activation_ranges"):
        lane.swap(har_bundle(tmp_path / "old", activation_ranges=None))
    lane.submit(people(3), None)
    lane.drain(PATIENCE_S)
    core.close()

    assert received.frames == 3
    assert (lane.model.bundle, lane.model.precision) == (har, "int8")
