import gc
import itertools
import weakref

import numpy as np
import pytest
import torch

from inference.bundle import Bundle, check_golden
from inference.core import Core, Result
from inference.device_choice import choose_device, may_have_gpu
from inference.devices import DeviceError, DeviceLostError, DeviceMemoryError, cpu, cuda, gpu_memory, pytorch
from inference.devices.cuda import BucketedEngine, batch_buckets
from inference.models import load_model
from inference.served_module import reference_probabilities, served_module
from tests.inference.bundles import people
from tests.inference.devices import BOTH, DEVICES, needs_cuda
from tests.inference.fakes import PATIENCE_S, Clock, FakeSlot, Receiver, numbered

# -- every device


@pytest.mark.parametrize(("name", "precision"), BOTH)
@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 32])
def test_a_device_answers_as_the_plain_module_does(har: Bundle, name: str, precision: str, frames: int) -> None:
    model = load_model(har, choose_device(name, precision), max_batch=32)  # type: ignore[arg-type]
    values = people(frames, seed=frames)

    model.engine.staging(1)[:frames] = values
    model.engine.launch(1, frames)
    answers = model.engine.collect(1)

    expected = reference_probabilities(served_module(har), values)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4 if precision == "float32" else 0.03)
    assert answers.dtype == np.float32


@pytest.mark.parametrize("name", DEVICES)
def test_a_frames_answer_does_not_depend_on_its_neighbours_in_the_batch(har: Bundle, name: str) -> None:
    engine = load_model(har, choose_device(name, "float32"), max_batch=32).engine  # type: ignore[arg-type]
    frame = people(1, seed=9)

    def answer_at(row: int, frames: int, seed: int) -> np.ndarray:
        staging = engine.staging(0)
        staging[:frames] = 50 * people(frames, seed=seed)
        staging[row] = frame[0]
        engine.launch(0, frames)
        return engine.collect(0)[row : row + 1]

    alone = answer_at(0, 1, seed=0)
    for row, frames, seed in ((0, 2, 1), (1, 2, 2), (7, 8, 3), (17, 30, 4), (31, 32, 5)):
        np.testing.assert_allclose(answer_at(row, frames, seed), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DEVICES)
def test_two_batches_are_held_at_once_and_answers_outlive_the_next_batch(har: Bundle, name: str) -> None:
    engine = load_model(har, choose_device(name, "float32"), max_batch=8).engine  # type: ignore[arg-type]
    batches = [people(count, seed=count) for count in (8, 3, 5, 8)]

    collected = []
    for number, batch in enumerate(batches):
        engine.staging(number % 2)[: len(batch)] = batch
        engine.launch(number % 2, len(batch))
        if number:
            collected.append(engine.collect((number - 1) % 2))
    collected.append(engine.collect(1))

    module = served_module(har)
    for batch, answers in zip(batches, collected, strict=True):
        np.testing.assert_allclose(answers, reference_probabilities(module, batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DEVICES)
def test_a_core_on_a_real_device_answers_every_frame(har: Bundle, name: str) -> None:
    received = Receiver()
    device = choose_device(name, "float32")  # type: ignore[arg-type]
    core = Core(device, max_batch=16, capacity=1000, clock=Clock(), deliver=received)
    lane = core.open(har)
    core.start()
    values = people(100)
    for start in range(0, 100, 7):
        assert lane.submit(values[start : start + 7], start)
    lane.drain(PATIENCE_S)
    core.close()

    def place(result: Result) -> int:
        return int(result.ticket) + result.start

    answers = np.concatenate([result.probabilities for result in sorted(received.results, key=place)])
    np.testing.assert_allclose(answers, reference_probabilities(served_module(har), values), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DEVICES)
def test_a_model_that_was_swapped_out_is_freed(har: Bundle, name: str) -> None:
    device = choose_device(name, "float32")  # type: ignore[arg-type]
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


def test_wild_readings_that_the_contract_allows_give_finite_answers(har: Bundle) -> None:
    """+-1000 m/s^2 on every axis once made float16 overflow; whatever is served must survive it."""
    for precision in ("float32", "bfloat16") if cpu._has_native_bfloat16() else ("float32",):
        engine = load_model(har, choose_device("cpu", precision), max_batch=2).engine
        engine.staging(0)[:] = np.stack([np.full((80, 3), 1000), np.full((80, 3), -1000)])
        engine.launch(0, 2)

        assert np.isfinite(engine.collect(0)).all()


# -- the CPU


def test_the_cpu_computes_with_as_many_threads_as_it_is_told(pairs: Bundle) -> None:
    before = torch.get_num_threads()
    try:
        load_model(pairs, choose_device("cpu", threads=2), max_batch=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_without_onednn_the_cpu_serves_the_module_as_it_is(har: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "_has_packed_convolution", lambda: False)

    load_model(har, choose_device("cpu"), max_batch=2)
    with pytest.raises(DeviceError, match="choose precision float32"):
        cpu.CpuDevice("float32", engine="pytorch").load(har, "bfloat16", 2)


def test_bfloat16_is_refused_where_the_cpu_would_emulate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_has_native_bfloat16", lambda: False)

    with pytest.raises(DeviceError, match="choose precision float32"):
        choose_device("cpu", "bfloat16")


def test_a_bundle_without_convolutions_runs_on_the_cpu(pairs: Bundle) -> None:
    engine = load_model(pairs, choose_device("cpu"), max_batch=4).engine
    engine.staging(0)[:2] = numbered(1, 2)
    engine.launch(0, 2)

    np.testing.assert_allclose(engine.collect(0), np.full((2, 3), 1 / 3), rtol=0, atol=1e-6)


# -- what of CUDA is plain code


def test_cuda_is_refused_in_one_sentence_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    monkeypatch.setattr("inference.device_choice.GPUS", ("/dev/null",))  # a driver, and no GPU that PyTorch can use

    assert choose_device("auto").name == "cpu"
    with pytest.raises(DeviceError, match="finds no CUDA device: choose device cpu or auto"):
        choose_device("cuda")


@pytest.mark.parametrize(("system", "may_have"), [("linux", False), ("darwin", False), ("win32", True)])
def test_pytorch_is_not_asked_for_cuda_where_there_is_none(
    system: str, may_have: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac, each start imported PyTorch to look for a GPU that no Mac has."""
    monkeypatch.setattr("inference.device_choice.GPUS", ())
    monkeypatch.setattr("sys.platform", system)

    assert may_have_gpu() is may_have


@pytest.mark.parametrize(
    ("max_batch", "buckets"),
    [
        (1, (1,)),
        (8, (8,)),
        (9, (8, 9)),
        (64, (8, 16, 24, 40, 64)),
        (256, (8, 16, 24, 40, 64, 96, 144, 216, 256)),
    ],
)
def test_the_buckets_are_multiples_of_eight_that_grow_by_half(max_batch: int, buckets: tuple[int, ...]) -> None:
    assert batch_buckets(max_batch) == buckets


@pytest.mark.parametrize("max_batch", [1, 7, 100, 1024, 65_536])
def test_the_buckets_are_few_and_waste_less_than_half(max_batch: int) -> None:
    buckets = batch_buckets(max_batch)

    assert len(buckets) <= 25
    assert buckets[-1] == max_batch
    assert all(low < high for low, high in itertools.pairwise(buckets))
    assert all(high <= 2 * low for low, high in itertools.pairwise(buckets))


def test_a_batch_is_padded_to_the_next_bucket_and_its_padding_is_not_answered() -> None:
    slots = [FakeSlot(64), FakeSlot(64)]
    engine = BucketedEngine(slots, batch_buckets(64))
    for slot, frames in ((0, 1), (1, 8), (0, 9), (1, 41), (0, 64)):
        engine.staging(slot)[:frames] = numbered(*range(frames))
        engine.launch(slot, frames)
        np.testing.assert_array_equal(engine.collect(slot), 2 * numbered(*range(frames)))

    assert slots[0].runs == [(1, 8), (9, 16), (64, 64)]
    assert slots[1].runs == [(8, 8), (41, 64)]


def test_two_slots_of_an_engine_do_not_share_memory() -> None:
    engine = BucketedEngine([FakeSlot(8), FakeSlot(8)], batch_buckets(8))
    engine.staging(0)[:1] = numbered(1)
    engine.launch(0, 1)
    engine.staging(1)[:1] = numbered(2)
    engine.launch(1, 1)

    first = engine.collect(0)
    engine.staging(0)[:1] = numbered(3)
    engine.launch(0, 1)
    np.testing.assert_array_equal(first, 2 * numbered(1))
    np.testing.assert_array_equal(engine.collect(1), 2 * numbered(2))
    np.testing.assert_array_equal(engine.collect(0), 2 * numbered(3))


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OUT_OF_MEMORY, DeviceMemoryError),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."), DeviceMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), DeviceMemoryError),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nFor ..."), DeviceLostError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceLostError),
    ],
)
@pytest.mark.parametrize("call", ["run", "wait"])
def test_errors_of_the_gpu_are_of_two_kinds_and_one_line(error: RuntimeError, kind: type, call: str) -> None:
    slot = FakeSlot(8)
    engine = BucketedEngine([slot, FakeSlot(8)], batch_buckets(8))

    def fail(*_: int) -> None:
        raise error

    setattr(slot, call, fail)

    def classify() -> None:
        engine.launch(0, 3)
        engine.collect(0)

    with pytest.raises(kind) as caught:
        classify()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert str(error).partition("\n")[0] in str(caught.value)


def test_a_capture_that_breaks_for_want_of_memory_is_reported_as_that() -> None:
    """Ending the broken capture raises an error of its own, which hid the one that it came of."""

    @cuda.device_errors()
    def capture() -> None:
        try:
            raise OUT_OF_MEMORY
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    with pytest.raises(DeviceMemoryError, match="Tried to allocate"):
        capture()


def test_what_an_attempt_without_memory_had_allocated_is_free_when_the_smaller_one_begins() -> None:
    """The error is kept while the batch is answered again, and hung on to all tensors of the failed attempt."""
    allocated: list[weakref.ref[torch.Tensor]] = []

    def attempt() -> None:
        activations = torch.zeros(3)
        allocated.append(weakref.ref(activations))
        raise OUT_OF_MEMORY

    with pytest.raises(DeviceMemoryError) as caught, cuda.device_errors():
        attempt()
    assert allocated[0]() is None
    assert caught.value.__cause__ is OUT_OF_MEMORY


def test_errors_that_are_not_the_gpus_stay_what_they_are() -> None:
    with pytest.raises(IndexError), cuda.device_errors():
        raise IndexError


@pytest.mark.skipif(cuda.is_available(), reason="here other tests of this process use a GPU")
def test_a_process_that_uses_no_gpu_holds_nothing_of_one() -> None:
    assert (gpu_memory.reserved(), gpu_memory.total()) == (0, 0)


# -- what needs CUDA


@pytest.mark.gpu
@needs_cuda
def test_auto_takes_the_gpu_and_the_golden_answers_hold_at_what_it_chose(har: Bundle) -> None:
    model = load_model(har, choose_device("auto"), max_batch=64)

    assert choose_device("auto").name == "cuda"
    assert model.precision in ("bfloat16", "float32")
    assert isinstance(model.engine, BucketedEngine)

    def infer(frames: np.ndarray) -> np.ndarray:
        model.engine.staging(0)[: len(frames)] = frames
        model.engine.launch(0, len(frames))
        return model.engine.collect(0)

    check_golden(har, infer, model.precision)


@pytest.mark.gpu
@needs_cuda
def test_what_the_process_holds_of_the_gpu_is_counted(har: Bundle) -> None:
    load_model(har, choose_device("cuda"), max_batch=64)
    assert 0 < gpu_memory.reserved() < gpu_memory.total()


@pytest.mark.gpu
@needs_cuda
def test_a_bundle_is_swapped_in_on_the_gpu_while_frames_are_being_answered(har: Bundle) -> None:
    received = Receiver()
    core = Core(choose_device("cuda"), max_batch=64, capacity=100_000, clock=Clock(), deliver=received)
    lane = core.open(har)
    core.start()
    values = people(1000)
    for turn in range(50):
        assert lane.submit(values, turn)
        if turn == 25:
            lane.swap(har)
    lane.drain(PATIENCE_S)

    expected = reference_probabilities(served_module(har), values)
    for result in received.results:
        np.testing.assert_allclose(result.probabilities, expected[result.start : result.stop], rtol=0, atol=0.03)
    assert received.frames == 50_000
    core.close()
