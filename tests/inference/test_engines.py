"""What every engine of the CPU must do, and which of them are offered where."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.bundle import Bundle
from inference.core import Core
from inference.device_choice import choose_device
from inference.devices import (
    DeviceError,
    Engine,
    EngineName,
    amx_support,
    answer,
    avx512_support,
    cpu,
    openvino,
    pytorch,
)
from inference.engine_choice import Measurement
from inference.manifest import ArchitectureChoice, Input
from inference.models import load_model
from inference.saving import save_bundle
from inference.served_module import reference_probabilities, served_module
from tests.inference.bundles import decided_network, har_bundle, har_description, people, text_bundle
from tests.inference.devices import ENGINES, needs_openvino
from tests.inference.fakes import PATIENCE_S, Clock, Receiver

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03, "int8": 0.01}


def load(bundle: Bundle, name: str, precision: str, max_batch: int) -> Engine:
    device = choose_device("cpu", precision, engine=name)  # type: ignore[arg-type]
    model = load_model(bundle, device, max_batch)
    assert (model.way, model.precision, model.passed_over) == (name, precision, ())
    return model.engine


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_an_engine_answers_batches_of_every_size_as_the_plain_module_does(
    har: Bundle, name: str, precision: str
) -> None:
    engine = load(har, name, precision, 40)
    values = people(40)
    expected = reference_probabilities(served_module(har), values)
    for frames in (1, 2, 5, 11, 12, 13, 24, 25, 39, 40):
        answers = answer(engine, values[:frames], 40)
        np.testing.assert_allclose(answers, expected[:frames], rtol=0, atol=TOLERANCE[precision])
        assert answers.dtype == np.float32


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_a_frames_answer_is_its_own_wherever_it_stands_in_a_batch(har: Bundle, name: str, precision: str) -> None:
    engine = load(har, name, precision, 32)
    frame = people(1, seed=9)
    alone = answer(engine, frame, 32)
    for row, frames in ((0, 2), (1, 2), (7, 8), (11, 12), (12, 13), (17, 30), (31, 32)):
        batch = 50 * people(frames, seed=frames)
        batch[row] = frame[0]
        found = answer(engine, batch, 32)[row : row + 1]
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5 if precision == "float32" else 0.01)


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_two_batches_are_held_at_once_and_answers_are_the_callers_own(har: Bundle, name: str, precision: str) -> None:
    engine = load(har, name, precision, 8)
    batches = [people(count, seed=count) for count in (8, 3, 5, 8)]
    collected = []
    for number, batch in enumerate(batches):
        engine.staging(number % 2)[: len(batch)] = batch
        engine.launch(number % 2, len(batch))
        if number:
            collected.append(engine.collect((number - 1) % 2))
    collected.append(engine.collect(1))

    for batch, answers in zip(batches, collected, strict=True):
        expected = reference_probabilities(served_module(har), batch)
        np.testing.assert_allclose(answers, expected, rtol=0, atol=TOLERANCE[precision])


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_wild_readings_give_finite_answers_and_leave_nothing_behind(har: Bundle, name: str, precision: str) -> None:
    engine = load(har, name, precision, 13)
    values = people(13)
    before = answer(engine, values, 13)
    wild = np.where(np.arange(13 * 80 * 3).reshape(13, 80, 3) % 2, np.float32(1000), np.float32(-1000))

    assert np.isfinite(answer(engine, wild, 13)).all()
    np.testing.assert_array_equal(answer(engine, values, 13), before)


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_what_is_no_number_reaches_no_answer_but_its_own_frames(har: Bundle, name: str, precision: str) -> None:
    engine = load(har, name, precision, 13)
    values = people(13)
    before = answer(engine, values, 13)
    for slot in (0, 9, 40, 79):
        broken = values.copy()
        broken[5, slot, 1] = np.nan
        answers = answer(engine, broken, 13)
        np.testing.assert_array_equal(np.delete(answers, 5, axis=0), np.delete(before, 5, axis=0))
    np.testing.assert_array_equal(answer(engine, values, 13), before)


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_a_bundle_without_normalisation_and_of_other_sizes_is_served(tmp_path: Path, name: str, precision: str) -> None:
    # Those kernels are made for frames of (80, 3), whatever the labels.
    slots, axes = (80, 3) if name in cpu.BFLOAT16_ALONE else (83, 2)
    arguments = {"slots": slots, "axes": axes, "classes": 4}
    description = har_description(
        architecture=ArchitectureChoice(name="har-cnn", arguments=arguments),
        input=Input(shape=(slots, axes)),
        labels=("a", "b", "c", "d"),
        normalisation=None,
    )
    values = np.random.default_rng(3).normal(0, 1, (20, slots, axes)).astype(np.float32)
    bundle = save_bundle(tmp_path / "other", decided_network(**arguments), description, values[:3])
    answers = answer(load(bundle, name, precision, 20), values, 20)

    expected = reference_probabilities(served_module(bundle), values)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=TOLERANCE[precision])
    assert np.ptp(expected, axis=0).max() > 0.1  # they differ from frame to frame


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_an_engine_that_was_swapped_out_is_freed(har: Bundle, name: str, precision: str) -> None:
    device = choose_device("cpu", precision, engine=name)  # type: ignore[arg-type]
    core = Core(device, max_batch=8, clock=Clock(), deliver=Receiver())
    lane = core.open(har)
    core.start()
    old = weakref.ref(lane.model.engine)
    lane.swap(har)
    lane.submit(people(1), None)
    lane.drain(PATIENCE_S)
    gc.collect()

    assert old() is None
    core.close()


# -- which are offered


def offered(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    *,
    installed: bool,
    bfloat16: bool,
    tiles: bool = False,
    dots: bool = False,
    **own: Any,
) -> list[str]:
    monkeypatch.setattr(amx_support, "missing", lambda: "" if tiles else "there is none")
    monkeypatch.setattr(avx512_support, "missing", lambda: "" if dots else "there are none")
    monkeypatch.setattr(openvino, "missing", lambda: "" if installed else "it is not installed")
    monkeypatch.setattr(cpu, "_has_native_bfloat16", lambda: bfloat16)
    measured: list[str] = []

    def note(_: Bundle, ways: list[cpu.CpuWay], *__: object) -> None:
        measured.extend(f"{way.engine} {way.precision}" for way in ways)

    monkeypatch.setattr(cpu, "choose", note)
    device = cpu.CpuDevice(measurement=Measurement(Clock()), **own)
    choice = device.choose(bundle, 8)
    return measured or [f"{way.engine} {way.precision} alone" for way in choice.ways]


@pytest.mark.parametrize(
    ("installed", "bfloat16", "ways"),
    [
        (False, False, ["winograd float32", "pytorch float32"]),
        (True, False, ["winograd float32", "openvino float32", "pytorch float32"]),
        (False, True, ["winograd float32", "pytorch bfloat16", "pytorch float32"]),
        (
            True,
            True,
            ["winograd float32", "openvino float32", "openvino bfloat16", "pytorch bfloat16", "pytorch float32"],
        ),
    ],
)
def test_all_that_the_machine_has_is_measured_and_pytorch_at_float32_is_the_last_resort(
    har: Bundle, monkeypatch: pytest.MonkeyPatch, installed: bool, bfloat16: bool, ways: list[str]
) -> None:
    assert offered(har, monkeypatch, installed=installed, bfloat16=bfloat16) == ways


def test_what_a_cpu_has_for_bfloat16_is_measured_beside_the_others(
    har: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = offered(har, monkeypatch, installed=False, bfloat16=True, dots=True)
    assert ways == ["winograd float32", "avx512 bfloat16", "pytorch bfloat16", "pytorch float32"]
    ways = offered(har, monkeypatch, installed=False, bfloat16=True, tiles=True, dots=True)
    assert ways == ["winograd float32", "amx bfloat16", "avx512 bfloat16", "pytorch bfloat16", "pytorch float32"]


@pytest.mark.parametrize("engine", cpu.BFLOAT16_ALONE)
def test_an_engine_for_bfloat16_that_is_named_serves_windows_and_nothing_else(
    har: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    architecture = ArchitectureChoice(name="har-cnn", arguments={"slots": 100})
    longer = har_description(architecture=architecture, input=Input(shape=(100, 3)))
    frames = np.random.default_rng(0).normal(0, 5, (4, 100, 3)).astype(np.float32)
    others = [
        text_bundle(tmp_path / "text"),
        save_bundle(tmp_path / "longer", decided_network(slots=100), longer, frames),
    ]

    had = {"installed": True, "bfloat16": True, "tiles": True, "dots": True}
    assert offered(har, monkeypatch, **had, engine=engine) == [f"{engine} bfloat16 alone"]
    for bundle in others:
        assert offered(bundle, monkeypatch, **had, engine=engine) == ["pytorch float32 alone"]


@pytest.mark.parametrize(
    ("own", "ways"),
    [
        ({"engine": "winograd"}, ["winograd float32 alone"]),
        ({"engine": "pytorch"}, ["pytorch float32", "pytorch bfloat16"]),
        ({"engine": "openvino", "precision": "bfloat16"}, ["openvino bfloat16 alone"]),
        ({"precision": "bfloat16"}, ["openvino bfloat16", "pytorch bfloat16"]),
        ({"precision": "float32"}, ["winograd float32", "openvino float32", "pytorch float32"]),
    ],
)
def test_what_the_settings_name_is_kept_to(
    har: Bundle, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], ways: list[str]
) -> None:
    assert offered(har, monkeypatch, installed=True, bfloat16=True, **own) == ways


@pytest.mark.parametrize("engine", ["auto", "winograd", "openvino", "pytorch"])
def test_texts_are_pytorchs_whatever_the_engine_and_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    bundle = text_bundle(tmp_path / "text")

    assert offered(bundle, monkeypatch, installed=True, bfloat16=False, engine=engine) == ["pytorch float32 alone"]


def test_winograd_serves_by_default_where_nothing_is_measured(har: Bundle) -> None:
    assert load_model(har, choose_device("cpu"), max_batch=2).way == "winograd"


def test_an_engine_that_cannot_be_compiled_leaves_its_place_to_the_next(
    har: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("no such instruction")

    monkeypatch.setattr("inference.devices.winograd.load", fail)
    model = load_model(har, choose_device("cpu"), max_batch=2)

    assert model.way == "pytorch"
    assert "can't be compiled here: no such instruction" in model.passed_over[0]


def test_real_engines_are_measured_and_the_result_is_kept(har: Bundle, tmp_path: Path) -> None:
    clock = iter(range(10_000))
    measurement = Measurement(lambda: float(next(clock)), tmp_path)
    model = load_model(har, choose_device("cpu", "float32", measurement=measurement), 4)

    assert model.choice is not None
    assert not any(each.refusal for each in model.choice.measured)
    assert {"winograd", "pytorch"} <= {each.engine for each in model.choice.measured}
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_har_bundles_are_served_without_pytorch() -> None:
    """It takes 3 s and 500 MB to import, and a worker that needs none of it was as slow to start, and as large."""
    script = (
        "import sys; import service.activity_worker, service.run; "
        "from inference.device_choice import choose_device; from inference.models import load_model; "
        "from inference.bundle import load_bundle, find_bundle; "
        "load_model(load_bundle(find_bundle('har-cnn')), choose_device('cpu'), 1); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_engines_are_measured_in_a_process_of_their_own() -> None:
    script = (
        "import sys, time; from inference.bundle import load_bundle, find_bundle; from inference.devices.cpu import *; "
        "from inference.engine_choice import Measurement; "
        "bundle = load_bundle(find_bundle('har-cnn')); "
        "choice = CpuDevice('float32', measurement=Measurement(time.process_time, apart=True)).choose(bundle, 4); "
        "print(sorted(each.engine for each in choice.measured if not each.refusal and each.frames_per_s > 0)); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'pytorch', 'winograd'" in done.stdout


# -- what can't be had


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("winograd", "bfloat16", "computes in float32: choose another engine"),
        ("openvino", "auto", "pip install '\\.\\[openvino\\]' in the checkout, or choose another engine"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, engine: EngineName, precision: str, message: str
) -> None:
    monkeypatch.setattr(cpu, "_has_native_bfloat16", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(DeviceError, match=message):
        choose_device("cpu", precision, engine=engine)  # type: ignore[arg-type]


@needs_openvino
def test_openvino_refuses_a_network_that_it_has_no_graph_for(tmp_path: Path) -> None:
    bundle = text_bundle(tmp_path / "text")

    with pytest.raises(DeviceError, match="serves har-cnn alone"):
        openvino.load(bundle, "float32", 4, 1)


@needs_openvino
def test_openvino_is_imported_without_the_package_that_reports_its_use() -> None:
    """Merely imported, it sends an event to its maker and leaves a folder in the user's home, unless told not to."""
    script = (
        "import sys; from inference.device_choice import choose_device; from inference.models import load_model; "
        "from inference.bundle import load_bundle, find_bundle; "
        "load_model(load_bundle(find_bundle('har-cnn')), choose_device('cpu', engine='openvino'), 1); "
        "sys.exit(any(name.startswith('openvino_telemetry') for name in sys.modules) or 'openvino' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@needs_openvino
def test_openvino_is_not_imported_where_it_is_not_wanted() -> None:
    script = (
        "import sys; from inference.device_choice import choose_device; from inference.models import load_model; "
        "from inference.bundle import load_bundle, find_bundle; "
        "load_model(load_bundle(find_bundle('har-cnn')), choose_device('cpu'), 1); sys.exit('openvino' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_onednn_packs_its_weights_once(har: Bundle) -> None:
    """It guessed a layout without the input's size, wrongly on processors without AVX512, and packed at each call."""
    module = pytorch.pack(served_module(har), "float32")
    layers = [layer for layer in module.modules() if isinstance(layer, pytorch.OneDnnConvRelu)]
    engine = pytorch.PyTorchEngine(module, (80, 3), "float32", 4)
    answer(engine, people(1), 4)
    packed = [layer._weight for layer in layers]
    answer(engine, people(4), 4)

    assert len(layers) == 4
    assert all(layer._weight is weight for layer, weight in zip(layers, packed, strict=True))
    assert all(weight.is_mkldnn for weight in packed)


def test_har_bundles_are_told_from_others_by_their_network(tmp_path: Path) -> None:
    bundle = har_bundle(tmp_path / "har", seed=3)
    assert cpu._serves("winograd", "float32", bundle)
    assert not cpu._serves("winograd", "bfloat16", bundle)
