"""Batches that the device cannot answer: smaller ones, the fallback, or the end; and a device that hangs."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.batching import GROW_AFTER_BATCHES, BatchLimit
from inference.bundle import Bundle
from inference.core import Core
from inference.devices import DeviceLostError, DeviceMemoryError
from inference.lanes import CoreError, CoreFailedError, CoreTimeoutError, DeviceGivenUpError, Lane, Trouble
from inference.manifest import GoldenError
from tests.inference.fakes import (
    PATIENCE_S,
    Clock,
    FakeDevice,
    Receiver,
    answers_of,
    end,
    id_frames,
    numbered,
    numbers_in,
)

Answer = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclasses.dataclass
class Rig:
    """A started core of batches up to 8 on a `cuda` that fails as the test says, perhaps with a `cpu` behind it."""

    core: Core
    lane: Lane
    gpu: FakeDevice
    cpu: FakeDevice
    received: Receiver
    troubles: list[Trouble]

    def submit(self, *numbers: int) -> bool:
        return self.lane.submit(numbered(*numbers), "ticket")

    def answered(self) -> list[int]:
        return [number for result in self.received.results for number in numbers_in(result)]


def make_rig(bundle: Bundle, *, fallback: bool, max_batch: int = 8) -> Rig:
    gpu, cpu = FakeDevice(name="cuda"), FakeDevice(name="cpu")
    received, troubles = Receiver(), list[Trouble]()
    core = Core(
        gpu,
        max_batch=max_batch,
        capacity=1000,
        clock=Clock(),
        deliver=received,
        fallback=cpu if fallback else None,
    )
    lane = core.open(bundle, troubles.append)
    core.start()
    return Rig(core, lane, gpu, cpu, received, troubles)


@pytest.fixture(params=[True, False], ids=["with a fallback", "without one"])
def rig(request: pytest.FixtureRequest, pairs: Bundle) -> Iterator[Rig]:
    yield from started(make_rig(pairs, fallback=request.param))


@pytest.fixture
def falling(pairs: Bundle) -> Iterator[Rig]:
    yield from started(make_rig(pairs, fallback=True))


@pytest.fixture
def alone(pairs: Bundle) -> Iterator[Rig]:
    yield from started(make_rig(pairs, fallback=False))


def started(rig: Rig) -> Iterator[Rig]:
    rig.gpu.launches.clear()
    rig.cpu.launches.clear()
    yield rig
    end(rig.core, rig.gpu)


def out_of_memory_above(frames: int) -> Answer:
    def answer(given: NDArray[Any]) -> NDArray[np.float32]:
        if len(given) > frames:
            raise DeviceMemoryError(f"no memory for {len(given)} frames")
        return answers_of(given)

    return answer


def lost(_: object) -> Any:
    raise DeviceLostError("the GPU fell off the bus")


# -- out of memory


def test_a_batch_without_memory_is_answered_in_halves_and_later_ones_are_no_larger(rig: Rig) -> None:
    rig.gpu.answer = out_of_memory_above(2)
    assert rig.submit(*range(8))
    rig.lane.drain(PATIENCE_S)

    assert rig.gpu.launches == [8, 4, 2, 2, 2, 2]
    assert rig.answered() == list(range(8))
    assert [(trouble.outcome, trouble.max_batch) for trouble in rig.troubles] == [("smaller", 4), ("smaller", 2)]
    assert rig.cpu.launches == []

    rig.submit(*range(8, 12))
    rig.lane.drain(PATIENCE_S)
    assert rig.gpu.launches[6:] == [2, 2]
    assert len(rig.troubles) == 2


def test_a_batch_behind_one_without_memory_keeps_its_place(falling: Rig) -> None:
    falling.gpu.hold()
    falling.submit(*range(16))
    falling.gpu.wait_for_launches(2)
    falling.gpu.answer = out_of_memory_above(4)
    falling.gpu.finish(20)
    falling.lane.drain(PATIENCE_S)

    assert falling.answered() == list(range(16))
    assert falling.gpu.launches == [8, 8, 4, 4, 4, 4]
    assert {trouble.max_batch for trouble in falling.troubles} == {4}  # both failed at eight; four did for both


def test_a_launch_without_memory_is_tried_again_smaller_too(rig: Rig) -> None:
    def on_launch(frames: int) -> None:
        if frames > 3:
            raise DeviceMemoryError("no memory to launch it")

    rig.gpu.on_launch = on_launch
    rig.submit(*range(8))
    rig.lane.drain(PATIENCE_S)

    assert rig.gpu.launches == [2, 2, 2, 2]
    assert rig.answered() == list(range(8))


def test_without_memory_for_one_frame_the_lane_moves_to_the_fallback(falling: Rig) -> None:
    falling.gpu.answer = out_of_memory_above(0)
    falling.submit(1, 2, 3)
    falling.lane.drain(PATIENCE_S)

    assert falling.gpu.launches == [3, 1]
    assert falling.cpu.launches == [1, 3]  # its golden frame first
    assert falling.answered() == [1, 2, 3]
    assert [trouble.outcome for trouble in falling.troubles] == ["smaller", "fallback"]


def test_without_memory_for_one_frame_and_without_a_fallback_the_core_dies(alone: Rig) -> None:
    alone.gpu.answer = out_of_memory_above(0)
    alone.submit(1, 2, 3)

    with pytest.raises(CoreFailedError, match="can't be served on cuda any more: no memory for 1 frames"):
        alone.lane.drain(PATIENCE_S)
    assert alone.received.results == []


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=20), room=st.integers(1, 9))
def test_whatever_there_is_memory_for_all_answers_come_in_order(pairs: Bundle, sizes: list[int], room: int) -> None:
    rig = make_rig(pairs, fallback=False)
    rig.gpu.answer = out_of_memory_above(room)
    numbers = iter(range(1000))
    for size in sizes:
        rig.submit(*(next(numbers) for _ in range(size)))
    rig.lane.drain(PATIENCE_S)
    end(rig.core, rig.gpu)

    assert rig.answered() == list(range(sum(sizes)))
    assert sum(result.batch_frames for result in rig.received.results if result.opens_batch) == sum(sizes)


def test_a_limit_grows_back_by_steps_when_a_thousand_batches_went_well() -> None:
    limit = BatchLimit(100)
    limit.shrink(100)
    limit.shrink(50)
    assert limit.frames == 25
    for wanted in (50, 100, 100):
        for _ in range(GROW_AFTER_BATCHES):
            limit.record_success()
        assert limit.frames == wanted


def test_a_failure_begins_the_thousand_batches_anew() -> None:
    limit = BatchLimit(8)
    limit.shrink(8)
    for _ in range(GROW_AFTER_BATCHES - 1):
        limit.record_success()
    limit.shrink(4)
    limit.record_success()
    assert limit.frames == 2


# -- a device that is lost, and rubbish


RUBBISH: list[Any] = [
    pytest.param(lost, "the GPU fell off the bus", id="lost"),
    pytest.param(lambda frames: np.full((len(frames), 3), np.nan, np.float32), "are not finite", id="nan"),
    pytest.param(lambda frames: answers_of(frames)[:, :2], r"answered \[3, 2\] instead", id="labels missing"),
    pytest.param(lambda frames: answers_of(frames)[:1], r"answered \[1, 3\] instead", id="rows missing"),
    pytest.param(lambda frames: frames[5, 5], "out of bounds", id="an error of another kind"),
]


@pytest.mark.parametrize(("answer", "_message"), RUBBISH)
def test_the_same_frames_and_all_later_ones_are_answered_by_the_fallback(
    falling: Rig, answer: Answer, _message: str
) -> None:
    falling.submit(0)
    falling.lane.drain(PATIENCE_S)
    falling.gpu.answer = answer
    falling.submit(1, 2, 3)
    falling.lane.drain(PATIENCE_S)
    falling.submit(4)
    falling.lane.drain(PATIENCE_S)

    assert falling.answered() == [0, 1, 2, 3, 4]
    assert falling.gpu.launches == [1, 3]
    assert falling.cpu.launches == [1, 3, 1]  # its golden frame first
    (trouble,) = falling.troubles
    assert (trouble.outcome, trouble.model) == ("fallback", falling.lane.model)
    assert falling.lane.model.device == "cpu"
    assert falling.lane.error is None


@pytest.mark.parametrize(("answer", "message"), RUBBISH)
def test_without_a_fallback_the_core_dies_and_says_what_to_do(alone: Rig, answer: Answer, message: str) -> None:
    alone.gpu.answer = answer
    alone.submit(1, 2, 3)

    with pytest.raises(CoreFailedError, match=message) as caught:
        alone.lane.drain(PATIENCE_S)
    assert "start the worker again; with inference.fallback cpu" in str(caught.value)
    assert isinstance(caught.value.__cause__, DeviceGivenUpError)
    assert alone.received.results == []


def test_rubbish_from_the_fallback_too_kills_the_core_and_is_not_delivered(falling: Rig) -> None:
    falling.gpu.answer = falling.cpu.answer = lambda frames: (
        answers_of(frames) if frames.sum() == 0 else np.full((len(frames), 3), np.nan, np.float32)
    )
    assert falling.lane.submit(np.ones((2, 2), np.float32), None)

    with pytest.raises(
        CoreFailedError, match=r"can't be served on cpu any more.*the bundle or its frames are at fault"
    ):
        falling.lane.drain(PATIENCE_S)
    assert falling.received.results == []


def test_a_fallback_that_misses_the_golden_answers_is_not_used(falling: Rig) -> None:
    falling.cpu.answer = lambda frames: answers_of(frames) + np.float32(0.1)
    falling.gpu.answer = lost
    falling.submit(1)

    with pytest.raises(CoreFailedError, match="misses its golden probabilities"):
        falling.lane.drain(PATIENCE_S)
    assert isinstance(falling.lane.error, GoldenError)
    assert falling.received.results == []


def test_batches_in_flight_when_the_device_is_lost_keep_their_order(falling: Rig) -> None:
    falling.gpu.hold()
    falling.submit(*range(16))
    falling.gpu.wait_for_launches(2)
    falling.submit(*range(16, 40))
    falling.gpu.answer = lost
    falling.gpu.finish(2)
    falling.lane.drain(PATIENCE_S)

    assert falling.answered() == list(range(40))
    assert falling.cpu.launches == [1, 8, 8, 8, 8, 8]  # its golden frame first
    assert [trouble.outcome for trouble in falling.troubles] == ["fallback"]


def test_each_lane_falls_back_when_its_own_batch_fails(pairs: Bundle, triples: Bundle) -> None:
    gpu, cpu, received = FakeDevice(name="cuda"), FakeDevice(name="cpu"), Receiver()
    core = Core(gpu, max_batch=8, clock=Clock(), deliver=received, fallback=cpu)
    first, second = core.open(pairs), core.open(triples)
    core.start()
    gpu.answer = lambda frames: lost(frames) if frames.dtype == np.int32 else answers_of(frames)
    second.submit(id_frames(1), "second")
    second.drain(PATIENCE_S)
    first.submit(numbered(2), "first")
    first.drain(PATIENCE_S)

    assert [(result.ticket, numbers_in(result)) for result in received.results] == [("second", [1]), ("first", [2])]
    assert (first.model.device, second.model.device) == ("cuda", "cpu")
    end(core, gpu)


def test_a_bundle_swapped_in_after_the_fall_is_loaded_on_the_fallback(falling: Rig, pairs: Bundle) -> None:
    falling.gpu.answer = lost
    falling.submit(1)
    falling.lane.drain(PATIENCE_S)
    falling.lane.swap(dataclasses.replace(pairs, digest="newer"))
    falling.submit(2)
    falling.lane.drain(PATIENCE_S)

    assert falling.answered() == [1, 2]
    assert falling.lane.model.device == "cpu"
    assert [result.bundle.digest for result in falling.received.results] == [pairs.digest, "newer"]


def test_a_model_that_holds_fewer_frames_than_the_lane_may_gets_no_more(alone: Rig) -> None:
    """One swapped in from the CPU, just as the lane fell back to it, was given a GPU's batches."""
    alone.lane._model = dataclasses.replace(alone.lane.model, max_batch=3)
    alone.submit(*range(8))
    alone.lane.drain(PATIENCE_S)

    assert alone.gpu.launches == [3, 3, 2]
    assert alone.answered() == list(range(8))


def test_a_batch_that_failed_is_answered_whole_by_the_bundle_that_was_swapped_in_meanwhile(
    alone: Rig, pairs: Bundle
) -> None:
    """Its results name that bundle: one batch never mixes two models' answers."""
    alone.gpu.hold()
    alone.submit(*range(6))
    alone.gpu.wait_for_launches(1)
    newer = dataclasses.replace(pairs, digest="newer")
    with alone.core._shared.lock:
        alone.lane._model = dataclasses.replace(alone.lane.model, bundle=newer)  # as `swap` does in the end
    alone.gpu.answer = out_of_memory_above(3)
    alone.gpu.finish(3)
    alone.lane.drain(PATIENCE_S)

    assert alone.answered() == list(range(6))
    assert {result.bundle.digest for result in alone.received.results} == {"newer"}


def test_a_lost_devices_engines_are_kept_and_the_end_is_not_called_clean(falling: Rig) -> None:
    """PyTorch asks the device when it frees pinned memory; a lost one's answer there aborts the process."""
    engine = falling.lane.model.engine
    falling.gpu.answer = lost
    falling.submit(1)
    falling.lane.drain(PATIENCE_S)
    falling.core.close(PATIENCE_S)

    assert [model.engine for model in falling.core._recovery.lost] == [engine]
    assert not falling.core.ended_cleanly


def test_a_core_whose_device_did_well_ends_cleanly(falling: Rig) -> None:
    falling.submit(1)
    falling.lane.drain(PATIENCE_S)
    falling.core.close(PATIENCE_S)
    assert falling.core.ended_cleanly


# -- loading


def test_a_device_without_memory_for_a_model_leaves_it_to_the_fallback_from_the_start(pairs: Bundle) -> None:
    gpu, cpu, troubles = FakeDevice(name="cuda"), FakeDevice(name="cpu"), list[Trouble]()
    gpu.answer = out_of_memory_above(0)
    core = Core(gpu, clock=Clock(), deliver=Receiver(), fallback=cpu)

    assert core.open(pairs, troubles.append).model.device == "cpu"
    assert [trouble.outcome for trouble in troubles] == ["fallback"]


def test_without_a_fallback_a_model_that_has_no_room_gets_no_lane(pairs: Bundle) -> None:
    gpu = FakeDevice(name="cuda")
    gpu.answer = out_of_memory_above(0)

    with pytest.raises(DeviceMemoryError, match="no memory for 1 frames"):
        Core(gpu, clock=Clock(), deliver=Receiver()).open(pairs)


# -- a device that hangs


def test_whoever_waits_for_a_device_that_hangs_is_told_and_nothing_of_it_is_delivered_later(rig: Rig) -> None:
    rig.gpu.hold()
    rig.submit(*range(30))
    rig.gpu.wait_until_busy()
    call = rig.core.call_under_way
    assert call is not None
    outcomes: list[str] = []

    def wait() -> None:
        with pytest.raises(CoreFailedError) as caught:
            rig.lane.drain(PATIENCE_S)
        outcomes.append(str(caught.value))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    rig.core.give_up(CoreError("the device hangs"))
    for thread in threads:
        thread.join(PATIENCE_S)

    assert outcomes == ["inference failed: the device hangs"] * 2
    assert str(rig.lane.error) == "the device hangs"
    with pytest.raises(CoreFailedError, match="the device hangs"):
        rig.submit(1)
    rig.core.close(0.0)  # waits for nobody
    assert not rig.core.ended_cleanly

    rig.gpu.finish(10)
    rig.core._thread.join(PATIENCE_S)
    assert not rig.core._thread.is_alive()
    assert rig.received.results == []


def test_each_call_of_the_device_has_a_number_of_its_own_and_between_calls_there_is_none(alone: Rig) -> None:
    alone.gpu.hold()
    alone.submit(1)
    alone.gpu.wait_until_busy()
    first = alone.core.call_under_way
    alone.gpu.finish()
    alone.lane.drain(PATIENCE_S)
    assert alone.core.call_under_way is None
    alone.gpu.hold()
    alone.submit(2)
    alone.gpu.wait_until_busy()

    assert first is not None
    assert alone.core.call_under_way not in (None, first)


def test_closing_a_core_that_hangs_and_has_not_been_given_up_says_so(alone: Rig) -> None:
    alone.gpu.hold()
    alone.submit(1)
    alone.gpu.wait_until_busy()

    with pytest.raises(CoreTimeoutError):
        alone.core.close(0.01)
    assert not alone.core.ended_cleanly
