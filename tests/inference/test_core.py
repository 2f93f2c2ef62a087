import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.bundle import Bundle, load_bundle
from inference.core import Core, Result
from inference.lanes import CoreClosedError, CoreFailedError, CoreTimeoutError, Lane
from inference.manifest import GoldenError, ManifestError
from tests.inference.bundles import constant_bundle
from tests.inference.fakes import (
    PATIENCE_S,
    Clock,
    FakeDevice,
    Receiver,
    answers_of,
    end,
    numbered,
    numbers_in,
    persist,
)


@dataclasses.dataclass
class Rig:
    """A started core of batches up to 4 and a queue of 12, on a device that holds every batch."""

    core: Core
    lane: Lane
    device: FakeDevice
    received: Receiver
    clock: Clock

    def submit(self, *numbers: int, ticket: object = "ticket") -> bool:
        return self.lane.submit(numbered(*numbers), ticket)


def make_rig(bundle: Bundle, *, max_batch: int = 4, capacity: int = 12) -> Rig:
    device, received, clock = FakeDevice(), Receiver(), Clock()
    core = Core(device, max_batch=max_batch, capacity=capacity, clock=clock, deliver=received)
    lane = core.open(bundle)
    core.start()
    return Rig(core, lane, device, received, clock)


@pytest.fixture
def rig(pairs: Bundle) -> Iterator[Rig]:
    rig = make_rig(pairs)
    rig.device.hold()
    yield rig
    end(rig.core, rig.device)


def rows_of(results: list[Result]) -> list[tuple[Any, int, int, list[int]]]:
    return [(result.ticket, result.start, result.stop, numbers_in(result)) for result in results]


# -- batching


def test_a_lone_frame_leaves_at_once_when_the_device_is_idle(rig: Rig) -> None:
    rig.submit(7)
    rig.device.finish()
    (result,) = rig.received.wait_for(1)

    assert rows_of([result]) == [("ticket", 0, 1, [7])]
    assert (result.batch_frames, result.reason, result.opens_batch) == (1, "idle", True)
    assert result.bundle.title == "constant@1"


def test_frames_gather_while_the_device_is_busy_and_leave_together_when_it_is_free(rig: Rig) -> None:
    rig.submit(1)
    rig.device.wait_for_launches(1)
    for number in (2, 3, 4):
        rig.submit(number)
    assert rig.lane.queued == 3

    rig.device.finish(2)
    results = rig.received.wait_for(4)

    assert rig.device.launches == [1, 3]
    assert [result.reason for result in results] == ["idle"] * 4
    assert [result.opens_batch for result in results] == [True, True, False, False]


def test_what_is_submitted_together_leaves_in_one_batch_though_the_device_is_idle(rig: Rig) -> None:
    with rig.lane.together():
        rig.submit(1)
        time.sleep(0.05)  # in which a core that had been told would have launched it
        rig.submit(2, 3)
    rig.device.finish()
    rig.received.wait_for(2)

    assert rig.device.launches == [3]


def test_what_fills_a_batch_does_not_wait_for_what_is_submitted_together_with_it(rig: Rig) -> None:
    with rig.lane.together():
        rig.submit(*range(5))
        rig.device.wait_for_launches(1)

    assert rig.device.launches == [4]
    rig.device.finish(2)
    assert [number for result in rig.received.wait_for(5) for number in numbers_in(result)] == list(range(5))


def test_a_core_is_woken_though_submitting_together_failed(rig: Rig) -> None:
    def submit_and_fail() -> None:
        with rig.lane.together():
            rig.submit(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        submit_and_fail()
    rig.device.finish()
    rig.received.wait_for(1)


def test_a_full_batch_is_launched_behind_the_one_that_runs(rig: Rig) -> None:
    rig.submit(*range(9))
    rig.device.wait_for_launches(2)

    assert rig.device.launches == [4, 4]
    assert rig.received.results == []
    assert rig.lane.queued == 1


def test_a_third_batch_waits_until_the_first_has_left_its_slot(rig: Rig) -> None:
    rig.submit(*range(12))
    rig.device.wait_for_launches(2)
    assert rig.lane.queued == 4

    rig.device.finish()
    rig.device.wait_for_launches(3)
    assert rig.device.launches == [4, 4, 4]
    rig.device.finish(2)
    assert [number for result in rig.received.wait_for(12) for number in numbers_in(result)] == list(range(12))


def test_a_batch_that_fills_up_is_full_and_one_that_does_not_is_idle(rig: Rig) -> None:
    rig.submit(*range(6))
    rig.device.finish(2)

    assert [result.reason for result in rig.received.wait_for(6)] == ["full", "idle"]


def test_a_large_block_comes_back_in_pieces_and_small_ones_share_a_batch(rig: Rig) -> None:
    rig.submit(1, ticket="first")
    rig.device.wait_for_launches(1)
    rig.submit(*range(10, 15), ticket="large")
    rig.submit(20, 21, ticket="small")
    rig.submit(30, ticket="last")
    rig.device.finish(10)

    assert rows_of(rig.received.wait_for(9)) == [
        ("first", 0, 1, [1]),
        ("large", 0, 4, [10, 11, 12, 13]),
        ("large", 4, 5, [14]),
        ("small", 0, 2, [20, 21]),
        ("last", 0, 1, [30]),
    ]
    assert rig.device.launches == [1, 4, 4]


def test_what_leaves_while_somebody_drains_says_so(rig: Rig) -> None:
    rig.submit(1)
    rig.device.wait_for_launches(1)
    rig.submit(2)
    drainer = threading.Thread(target=rig.lane.drain, args=(PATIENCE_S,))
    drainer.start()
    while not rig.lane._drainers:  # no event tells; the deadline is the test's own
        drainer.join(0.001)
    rig.device.finish(2)
    drainer.join(PATIENCE_S)

    assert [result.reason for result in rig.received.results] == ["idle", "drain"]
    assert rig.lane.queued == 0


def test_times_are_the_clocks_of_submission_launch_and_answer(rig: Rig) -> None:
    rig.clock.now = 100.0
    rig.submit(1)
    rig.device.wait_for_launches(1)
    rig.clock.now = 103.0
    rig.submit(2)
    rig.clock.now = 110.0
    rig.device.finish()
    rig.device.wait_for_launches(2)
    rig.received.wait_for(1)
    rig.clock.now = 111.5
    rig.device.finish()
    first, second = rig.received.wait_for(2)

    assert (first.queue_s, first.inference_s) == (0.0, 10.0)
    assert (second.queue_s, second.inference_s) == (7.0, 1.5)


def test_a_batch_launched_behind_another_queues_until_the_other_is_done(rig: Rig) -> None:
    rig.submit(*range(8))
    rig.device.wait_for_launches(2)
    rig.clock.now = 102.0
    rig.device.finish()
    rig.received.wait_for(4)
    rig.clock.now = 105.0
    rig.device.finish()
    first, second = rig.received.wait_for(8)

    assert (first.queue_s, first.inference_s) == (0.0, 2.0)
    assert (second.queue_s, second.inference_s) == (2.0, 3.0)


def test_no_frames_no_result(rig: Rig) -> None:
    assert rig.submit()
    rig.lane.drain(PATIENCE_S)

    assert rig.received.results == []


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 3), np.float32), np.zeros(2, np.float32), np.zeros((1, 2), np.float64), np.zeros((1, 2), np.int32)],
)
def test_frames_of_another_shape_or_dtype_are_refused(rig: Rig, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"the model takes float32 \(n, 2\)"):
        rig.lane.submit(frames, None)


# -- back-pressure


def test_a_block_without_room_is_refused_whole_and_taken_once_there_is_room(rig: Rig) -> None:
    rig.submit(1)
    rig.device.wait_until_busy()

    assert rig.submit(*range(10, 20))
    assert not rig.submit(20, 21, 22)
    assert rig.lane.queued == 10
    assert rig.submit(20, 21)
    assert rig.lane.queued == rig.lane.capacity == 12

    rig.device.finish(1)
    rig.device.wait_for_launches(2)
    assert rig.submit(22, 23, 24)


def test_a_block_larger_than_the_queue_is_taken_when_nothing_waits(rig: Rig) -> None:
    assert rig.submit(*range(13))
    rig.device.wait_for_launches(2)
    assert not rig.submit(*range(13))
    rig.device.finish(5)

    assert [number for result in rig.received.wait_for(13) for number in numbers_in(result)] == list(range(13))


# -- failure


def fail(message: str) -> Callable[..., Any]:
    def raise_it(*_: object) -> Any:
        raise RuntimeError(message)

    return raise_it


def exit_thread(*_: object) -> Any:
    raise SystemExit("a thread may die of this too")


def test_a_device_that_fails_while_it_runs_wakes_everybody_with_its_error(rig: Rig) -> None:
    rig.submit(1)
    rig.device.wait_for_launches(1)
    rig.submit(*range(2, 14))
    outcomes: list[BaseException] = []

    def wait() -> None:
        try:
            rig.lane.drain(PATIENCE_S)
        except CoreFailedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    rig.device.answer = fail("the GPU fell off the bus")
    rig.device.finish()
    for thread in threads:
        thread.join(PATIENCE_S)

    message = (
        "constant@1 can't be served on fake any more: the GPU fell off the bus; start the worker again; with "
        "inference.fallback cpu it goes on without this device"
    )
    assert [str(error) for error in outcomes] == [f"inference failed: {message}"] * 2
    assert rig.received.results == []
    assert str(rig.lane.error) == message
    assert rig.lane.queued == 0
    with pytest.raises(CoreFailedError, match="fell off the bus"):
        rig.submit(99)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda frames: np.full((len(frames), 3), np.nan, np.float32), "not finite"),
        (lambda frames: answers_of(frames) / np.float32(0), "not finite"),
        (lambda frames: answers_of(frames)[:, :2], r"answered \[2, 2\] instead of \[2, 3\]"),
        (lambda frames: answers_of(frames)[:1], r"answered \[1, 3\] instead of \[2, 3\]"),
        (exit_thread, "may die of this too"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_rubbish_is_not_delivered(rig: Rig, answer: Callable[[np.ndarray], np.ndarray], error: str) -> None:
    rig.device.answer = answer
    rig.submit(1, 2)
    rig.device.finish()

    with pytest.raises(CoreFailedError, match=error):
        rig.lane.drain(PATIENCE_S)
    assert rig.received.results == []


def test_a_launch_that_fails_stops_the_core(rig: Rig) -> None:
    rig.device.on_launch = fail("out of memory")
    rig.submit(1)

    with pytest.raises(CoreFailedError, match="out of memory"):
        rig.lane.drain(PATIENCE_S)


def test_a_launch_that_fails_behind_a_batch_that_runs_delivers_nothing_of_its_own(rig: Rig) -> None:
    """The running batch is for its own collection to judge: a device that was lost under it says so there too."""
    calls: list[int] = []

    def fail_the_second(frames: int) -> None:
        calls.append(frames)
        if len(calls) == 2:
            raise RuntimeError("an illegal address")

    rig.device.on_launch = fail_the_second
    rig.submit(*range(8))
    rig.device.finish()

    with pytest.raises(CoreFailedError, match="an illegal address"):
        rig.lane.drain(PATIENCE_S)
    assert [numbers_in(result) for result in rig.received.results] == [[0, 1, 2, 3]]


def test_a_receiver_that_fails_stops_the_core(pairs: Bundle) -> None:
    device = FakeDevice()
    core = Core(device, clock=Clock(), deliver=fail("the publisher is gone"))
    lane = core.open(pairs)
    core.start()
    lane.submit(numbered(1), None)

    with pytest.raises(CoreFailedError, match="the publisher is gone"):
        lane.drain(PATIENCE_S)
    assert str(lane.error) == "the publisher is gone"
    end(core, device)


# -- beginning and end


def test_draining_answers_all_that_was_submitted(rig: Rig) -> None:
    rig.submit(*range(11))
    rig.device.finish(3)
    rig.lane.drain(PATIENCE_S)

    assert rig.received.frames == 11
    assert rig.lane.error is None
    assert rig.submit(12)


def test_draining_an_idle_core_returns_at_once(rig: Rig) -> None:
    rig.lane.drain(0.0)


def test_draining_ends_at_its_deadline_and_says_what_is_left(rig: Rig) -> None:
    rig.submit(*range(5))

    with pytest.raises(CoreTimeoutError, match=r"5 frames were still unanswered after 0\.01 s"):
        rig.lane.drain(0.01)


def test_closing_delivers_what_runs_and_drops_what_waits(rig: Rig) -> None:
    rig.submit(1, 2)
    rig.device.wait_for_launches(1)
    rig.submit(3)
    with pytest.raises(CoreTimeoutError, match=r"did not end within 0\.01 s"):
        rig.core.close(0.01)
    rig.device.finish()
    rig.core.close(PATIENCE_S)

    assert [number for result in rig.received.results for number in numbers_in(result)] == [1, 2]
    assert rig.core.ended_cleanly
    with pytest.raises(CoreClosedError):
        rig.submit(4)
    with pytest.raises(CoreClosedError):
        rig.lane.drain(PATIENCE_S)


def test_frames_for_a_core_that_was_never_started_are_refused(pairs: Bundle) -> None:
    core = Core(FakeDevice(), clock=Clock(), deliver=Receiver())

    with pytest.raises(CoreClosedError, match="not been started"):
        core.open(pairs).submit(numbered(1), None)
    core.close()


@pytest.mark.parametrize(("max_batch", "capacity"), [(0, 1), (1, 0), (-1, 1)])
def test_sizes_below_one_are_refused(max_batch: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Core(FakeDevice(), max_batch=max_batch, capacity=capacity, clock=Clock(), deliver=Receiver())


# -- models


def test_a_device_that_misses_the_golden_answers_gets_no_lane(pairs: Bundle) -> None:
    device = FakeDevice()
    device.answer = lambda frames: answers_of(frames) + np.float32(0.1)

    with pytest.raises(GoldenError):
        Core(device, clock=Clock(), deliver=Receiver()).open(pairs)


def test_the_golden_frames_are_checked_even_if_they_do_not_fit_one_batch(har: Bundle) -> None:
    device = FakeDevice()
    seen: list[int] = []

    def answer(frames: np.ndarray) -> np.ndarray:
        seen.append(len(frames))
        expected = np.array(har.manifest.golden.probabilities, np.float32)
        return expected[sum(seen) - len(frames) : sum(seen)]

    device.answer = answer
    Core(device, max_batch=3, clock=Clock(), deliver=Receiver()).open(har)

    assert seen == [3, 1]


def test_a_precision_that_misses_the_golden_answers_gives_way_to_the_next(pairs: Bundle) -> None:
    device = FakeDevice(precisions=("bfloat16", "float32"))
    device.answer = lambda frames: answers_of(frames) + np.float32(0.1 if device.loaded == ["bfloat16"] else 0)

    lane = Core(device, clock=Clock(), deliver=Receiver()).open(pairs)

    assert device.loaded == ["bfloat16", "float32"]
    assert lane.model.precision == "float32"


def test_the_first_precision_that_passes_serves(pairs: Bundle) -> None:
    device = FakeDevice(precisions=("bfloat16", "float32"))

    assert Core(device, clock=Clock(), deliver=Receiver()).open(pairs).model.precision == "bfloat16"
    assert device.loaded == ["bfloat16"]


def test_a_swapped_in_bundle_answers_from_the_next_batch_on(rig: Rig, pairs: Bundle) -> None:
    rig.submit(1)
    rig.device.wait_for_launches(1)
    newer = dataclasses.replace(pairs, digest="newer")
    rig.device.finish()  # for the golden check of the swap or the batch, whichever comes first
    rig.device.finish()
    rig.lane.swap(newer)
    rig.device.finish()
    rig.submit(2)

    first, second = rig.received.wait_for(2)
    assert first.bundle.digest == pairs.digest
    assert second.bundle.digest == "newer"
    assert rig.lane.model.bundle is newer


def test_a_bundle_that_fails_its_golden_check_leaves_the_old_one_serving(pairs: Bundle) -> None:
    rig = make_rig(pairs)
    rig.device.answer = lambda frames: answers_of(frames) + np.float32(0.1)
    with pytest.raises(GoldenError):
        rig.lane.swap(pairs)
    rig.device.answer = answers_of

    rig.submit(5)
    assert [numbers_in(result) for result in rig.received.wait_for(1)] == [[5]]
    assert rig.lane.error is None
    end(rig.core, rig.device)


def test_a_bundle_for_other_frames_or_with_other_labels_cannot_be_swapped_in(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has other labels than"):
        rig.lane.swap(constant_bundle(tmp_path / "labels", labels=("a", "b", "d")))
    with pytest.raises(ManifestError, match="another input"):
        rig.lane.swap(constant_bundle(tmp_path / "shape", shape=(4,)))


def test_a_bundle_can_be_loaded_and_swapped_while_another_thread_submits(pairs: Bundle) -> None:
    rig = make_rig(pairs, capacity=1000)
    for number in range(200):
        assert rig.submit(number, ticket=number)
        if number % 50 == 25:
            rig.lane.swap(load_bundle(pairs.folder))
    results = rig.received.wait_for(200)

    assert [numbers_in(result) for result in results] == [[number] for number in range(200)]
    end(rig.core, rig.device)


# -- everything at once


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    max_batch=st.integers(1, 8),
    capacity=st.integers(1, 20),
)
def test_any_sequence_of_blocks_comes_back_complete_in_order_each_frame_with_its_own_answer(
    pairs: Bundle, sizes: list[int], max_batch: int, capacity: int
) -> None:
    rig = make_rig(pairs, max_batch=max_batch, capacity=capacity)
    number = 0
    submitted: list[tuple[int, list[int]]] = []
    for ticket, size in enumerate(sizes):
        numbers = list(range(number, number + size))
        number += size
        persist(functools.partial(rig.submit, *numbers, ticket=ticket))
        submitted += [(ticket, numbers)] if numbers else []
    rig.lane.drain(PATIENCE_S)
    end(rig.core, rig.device)

    results = rig.received.results
    returned: dict[int, list[int]] = {}
    for result in results:
        assert result.start == len(returned.setdefault(result.ticket, []))
        assert result.stop - result.start == len(result.probabilities)
        returned[result.ticket] += numbers_in(result)
    assert list(returned.items()) == submitted
    opened = [result.batch_frames for result in results if result.opens_batch]
    assert sum(opened) == number
    assert all(1 <= frames <= max_batch for frames in opened)


def test_threads_that_submit_at_once_each_get_their_own_answers_in_their_own_order(pairs: Bundle) -> None:
    rig = make_rig(pairs, max_batch=16, capacity=64)

    def send(sender: int) -> None:
        for number in range(100):
            persist(functools.partial(rig.submit, 1000 * sender + number, ticket=sender))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    results = rig.received.wait_for(400)
    end(rig.core, rig.device)

    for sender in range(4):
        mine = [number for result in results if result.ticket == sender for number in numbers_in(result)]
        assert mine == list(range(1000 * sender, 1000 * sender + 100))
