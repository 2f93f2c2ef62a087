"""Several models on one core: whose turn it is, and what one lane's trouble does to another."""

import dataclasses
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.bundle import Bundle
from inference.core import Core, Result
from inference.lanes import CoreClosedError, CoreFailedError, CoreTimeoutError, Lane
from inference.manifest import ManifestError
from tests.inference.bundles import text_bundle
from tests.inference.fakes import (
    PATIENCE_S,
    Clock,
    FakeDevice,
    Receiver,
    end,
    id_frames,
    numbered,
    numbers_in,
    persist,
)


@dataclasses.dataclass
class Rig:
    """A started core with two lanes of batches up to 4 and a queue of 12 each, on a device that holds every batch."""

    core: Core
    pairs: Lane
    triples: Lane
    device: FakeDevice
    received: Receiver

    def submit_pairs(self, *numbers: int) -> bool:
        return self.pairs.submit(numbered(*numbers), "pairs")

    def submit_triples(self, *numbers: int) -> bool:
        return self.triples.submit(id_frames(*numbers), "triples")


def make_rig(pairs: Bundle, triples: Bundle, *, max_batch: int = 4, capacity: int = 12) -> Rig:
    device, received = FakeDevice(), Receiver()
    core = Core(device, max_batch=max_batch, capacity=capacity, clock=Clock(), deliver=received)
    lanes = core.open(pairs), core.open(triples)
    core.start()
    return Rig(core, *lanes, device, received)


@pytest.fixture
def rig(pairs: Bundle, triples: Bundle) -> Iterator[Rig]:
    rig = make_rig(pairs, triples)
    rig.device.hold()
    yield rig
    end(rig.core, rig.device)


def rows_of(results: list[Result]) -> list[tuple[object, str, list[int]]]:
    return [(result.ticket, result.bundle.manifest.name, numbers_in(result)) for result in results]


# -- turns


def test_each_lane_gets_its_own_models_answers_to_its_own_frames(rig: Rig) -> None:
    rig.submit_pairs(1, 2)
    rig.device.wait_for_launches(1)
    rig.submit_triples(7)
    rig.submit_pairs(3)
    rig.device.finish(3)

    assert rows_of(rig.received.wait_for(4)) == [
        ("pairs", "constant", [1, 2]),
        ("triples", "undecided", [7]),
        ("pairs", "constant", [3]),
    ]
    assert rig.device.dtypes == ["float32", "int32", "float32"]


def test_a_batch_never_holds_frames_of_two_lanes(rig: Rig) -> None:
    rig.submit_pairs(0)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(1)
    rig.submit_triples(2)
    rig.device.finish(3)
    results = rig.received.wait_for(3)

    assert [result.batch_frames for result in results] == [1, 1, 1]
    assert all(result.opens_batch for result in results)


def test_a_trickle_is_answered_after_at_most_one_further_batch_of_a_flood(rig: Rig) -> None:
    """One batch runs and one is launched behind it when the frame comes: those two, and then its turn."""
    rig.submit_pairs(*range(12))
    rig.device.wait_for_launches(2)
    rig.submit_triples(99)
    rig.submit_pairs(*range(12, 20))
    rig.device.finish(3)
    rig.device.wait_for_launches(4)

    assert rig.device.dtypes[:4] == ["float32", "float32", "int32", "float32"]
    assert numbers_in(rig.received.wait_for(9)[2]) == [99]


def test_a_flood_gets_a_batch_between_any_two_of_a_trickle(rig: Rig) -> None:
    rig.submit_pairs(*range(12))
    rig.device.wait_for_launches(2)
    for number in range(3):
        rig.submit_triples(number)
        rig.submit_pairs(*range(4))
        rig.device.finish(2)
        rig.device.wait_for_launches(4 + 2 * number)

    assert rig.device.dtypes == ["float32", "float32", *["int32", "float32"] * 3]


def test_two_floods_take_turns_batch_by_batch(rig: Rig) -> None:
    rig.submit_pairs(0)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(*range(12))
    rig.submit_triples(*range(12))
    rig.device.finish(7)
    rig.received.wait_for(25)

    assert rig.device.launches == [1, *[4] * 6]
    assert rig.device.dtypes[1:] in (["float32", "int32"] * 3, ["int32", "float32"] * 3)


def test_a_full_batch_of_the_lane_whose_turn_it_is_is_launched_behind_the_others(rig: Rig) -> None:
    rig.submit_pairs(1)
    rig.device.wait_for_launches(1)
    rig.submit_triples(1, 2, 3, 4)
    rig.device.finish()
    rig.device.wait_for_launches(2)
    rig.submit_pairs(2, 3, 4, 5)
    rig.device.finish(2)
    rig.received.wait_for(9)

    assert rig.device.launches == [1, 4, 4]
    assert rig.device.dtypes == ["float32", "int32", "float32"]


def test_a_lane_whose_turn_it_is_gathers_on_rather_than_being_overtaken_by_a_full_one(rig: Rig) -> None:
    rig.submit_pairs(*range(8))
    rig.device.wait_for_launches(2)
    rig.submit_triples(1)
    rig.submit_pairs(*range(4))
    rig.device.finish()
    rig.received.wait_for(4)
    rig.submit_triples(2)
    assert rig.device.launches == [4, 4]
    rig.device.finish(3)
    rig.received.wait_for(14)

    assert rig.device.launches == [4, 4, 2, 4]
    assert rig.device.dtypes == ["float32", "float32", "int32", "float32"]


def test_a_lane_alone_is_not_held_up_by_lanes_without_frames(rig: Rig) -> None:
    rig.submit_pairs(*range(12))
    rig.device.finish(3)
    rig.received.wait_for(12)

    assert rig.device.launches == [4, 4, 4]


def test_each_lane_has_a_capacity_of_its_own(rig: Rig) -> None:
    rig.submit_pairs(1)
    rig.device.wait_until_busy()
    assert rig.submit_pairs(*range(12))
    assert not rig.submit_pairs(13)

    assert rig.submit_triples(*range(12))
    assert not rig.submit_triples(13)
    assert (rig.pairs.queued, rig.triples.queued) == (12, 12)


def test_frames_of_another_lanes_kind_are_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match=r"the model takes int32 \(n, 3\)"):
        rig.triples.submit(numbered(1), None)


def test_a_lane_may_be_opened_while_another_serves(pairs: Bundle, triples: Bundle) -> None:
    device, received = FakeDevice(), Receiver()
    core = Core(device, clock=Clock(), deliver=received)
    first = core.open(pairs)
    core.start()
    first.submit(numbered(1), "first")
    received.wait_for(1)
    second = core.open(triples)
    second.submit(id_frames(2), "second")

    assert [numbers_in(result) for result in received.wait_for(2)] == [[1], [2]]
    end(core, device)


# -- one lane's trouble


def test_draining_one_lane_does_not_wait_for_what_another_submits(rig: Rig) -> None:
    rig.submit_triples(1)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(*range(12))
    drained = threading.Event()

    def drain() -> None:
        rig.triples.drain(PATIENCE_S)
        drained.set()

    drainer = threading.Thread(target=drain)
    drainer.start()
    rig.device.finish()
    drainer.join(PATIENCE_S)

    assert drained.is_set()
    assert rig.received.frames == 1
    assert rig.pairs.queued >= 4


def test_only_the_lane_that_drains_says_that_it_drains(rig: Rig) -> None:
    rig.submit_pairs(1)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(2)
    rig.submit_triples(3)
    drainer = threading.Thread(target=rig.triples.drain, args=(PATIENCE_S,))
    drainer.start()
    while not rig.triples._drainers:  # no event tells; the deadline is the test's own
        drainer.join(0.001)
    rig.device.finish(3)
    drainer.join(PATIENCE_S)

    assert [(result.ticket, result.reason) for result in rig.received.wait_for(3)] == [
        ("pairs", "idle"),
        ("triples", "drain"),
        ("pairs", "idle"),
    ]


def test_a_drain_that_is_not_finished_counts_the_frames_of_its_own_lane(rig: Rig) -> None:
    rig.submit_pairs(*range(12))
    rig.submit_triples(1, 2)

    with pytest.raises(CoreTimeoutError, match="2 frames were still unanswered"):
        rig.triples.drain(0.01)


def test_swapping_one_lanes_model_leaves_the_others(pairs: Bundle, triples: Bundle) -> None:
    rig = make_rig(pairs, triples)
    other = rig.triples.model
    newer = dataclasses.replace(pairs, digest="newer")
    rig.pairs.swap(newer)
    rig.submit_pairs(1)
    rig.submit_triples(2)
    results = {result.ticket: result.bundle for result in rig.received.wait_for(2)}

    assert rig.triples.model is other
    assert results == {"pairs": newer, "triples": triples}
    end(rig.core, rig.device)


def test_a_bundle_of_other_words_or_another_framing_cannot_be_swapped_in(tmp_path: Path) -> None:
    """The worker's framer outlives a swap: its ids would mean other words."""
    device = FakeDevice()
    first = text_bundle(tmp_path / "first", words=("good", "bad"))
    device.answer = lambda _: np.array(first.manifest.golden.probabilities, np.float32)
    core = Core(device, clock=Clock(), deliver=Receiver())
    lane = core.open(first)

    with pytest.raises(ManifestError, match="another vocabulary"):
        lane.swap(text_bundle(tmp_path / "words", words=("bad", "good")))
    rules = {"tokens": "words", "html": True, "length": 20, "keep": "first"}
    with pytest.raises(ManifestError, match="another framing"):
        lane.swap(text_bundle(tmp_path / "rules", words=("good", "bad"), rules=rules))


def test_a_device_that_fails_fails_the_callers_of_every_lane(rig: Rig) -> None:
    rig.submit_pairs(1)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(*range(12))
    rig.submit_triples(*range(12))
    outcomes: list[str] = []

    def wait(lane: Lane) -> None:
        try:
            lane.drain(PATIENCE_S)
        except CoreFailedError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=wait, args=(lane,)) for lane in (rig.pairs, rig.triples)]
    for thread in threads:
        thread.start()

    def fall_off(_: object) -> None:
        raise RuntimeError("the GPU fell off the bus")

    rig.device.answer = fall_off  # type: ignore[assignment]
    rig.device.finish()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert len(outcomes) == 2
    assert all("fake any more: the GPU fell off the bus" in outcome for outcome in outcomes)
    assert (rig.pairs.queued, rig.triples.queued) == (0, 0)
    for submit in (rig.submit_pairs, rig.submit_triples):
        with pytest.raises(CoreFailedError, match="fell off the bus"):
            submit(1)


def test_closing_drops_what_waits_in_every_lane(rig: Rig) -> None:
    rig.submit_pairs(1)
    rig.device.wait_for_launches(1)
    rig.submit_pairs(2)
    rig.submit_triples(3)
    with pytest.raises(CoreTimeoutError):
        rig.core.close(0.0)
    rig.device.finish()
    rig.core.close(PATIENCE_S)

    assert rows_of(rig.received.results) == [("pairs", "constant", [1])]
    for submit in (rig.submit_pairs, rig.submit_triples):
        with pytest.raises(CoreClosedError):
            submit(4)
    assert (rig.pairs.queued, rig.triples.queued) == (0, 0)


# -- everything at once


@settings(deadline=None, max_examples=40)
@given(
    blocks=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=30),
    max_batch=st.integers(1, 8),
    capacity=st.integers(1, 20),
)
def test_any_mixture_of_blocks_comes_back_complete_each_lane_in_its_order(
    pairs: Bundle, triples: Bundle, blocks: list[tuple[bool, int]], max_batch: int, capacity: int
) -> None:
    rig = make_rig(pairs, triples, max_batch=max_batch, capacity=capacity)
    number = 0
    wanted: dict[str, list[int]] = {"pairs": [], "triples": []}
    for is_pair, size in blocks:
        numbers = list(range(number, number + size))
        number += size
        persist(functools.partial(rig.submit_pairs if is_pair else rig.submit_triples, *numbers))
        wanted["pairs" if is_pair else "triples"] += numbers
    rig.pairs.drain(PATIENCE_S)
    rig.triples.drain(PATIENCE_S)
    end(rig.core, rig.device)

    found: dict[str, list[int]] = {"pairs": [], "triples": []}
    for result in rig.received.results:
        found[result.ticket] += numbers_in(result)
    assert found == wanted
