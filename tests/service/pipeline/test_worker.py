"""What the worker makes of errors of a poll, without Kafka: they come of clusters, and at moments, that no test has."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import LogTruncationError
from kafka.structs import MemberState, TopicPartition

from service.pipeline.worker import Worker

CUT, GONE = TopicPartition("accelerometer", 0), TopicPartition("accelerometer", 1)


def test_after_an_unclean_election_the_partitions_cut_off_are_recovered_and_the_worker_lives() -> None:
    """kafka-python's error is not to be retried, and ended the worker."""
    recovered: list[tuple[Any, str]] = []

    def poll(timeout_ms: int) -> Any:
        raise LogTruncationError({CUT: None, GONE: None})

    held = {CUT: "the one that is held"}
    assignment = SimpleNamespace(
        among=lambda sources: [held[source] for source in sources & held.keys()],
        start_over=lambda partition, why: recovered.append((partition, why)),
    )
    worker: Any = SimpleNamespace(_consumer=SimpleNamespace(poll=poll), _assignment=assignment, _poll_at=0.0)
    assert Worker._poll(worker, 0.1) == {}
    [(partition, why)] = recovered
    assert partition == "the one that is held"
    assert "cut off" in why


@pytest.mark.parametrize(("answered", "out"), [(True, False), (False, True)])
def test_what_was_polled_is_taken_only_once_it_is_certainly_ours(answered: bool, out: bool) -> None:
    """A worker that thaws polls what had come, before its heartbeat tells that others have its partitions."""
    checks: list[bool] = []
    gone_back: list[bool] = []

    def holds() -> bool:
        checks.append(True)
        return answered and len(checks) > 2

    worker: Any = SimpleNamespace(
        _lease=SimpleNamespace(holds=holds, is_out=lambda: out and len(checks) > 2),
        _assignment=SimpleNamespace(seek_back=lambda: gone_back.append(True)),
    )
    polled: Any = {CUT: ["records"]}
    assert Worker._if_still_ours(worker, polled) == (polled if answered else {})
    assert gone_back == ([] if answered else [True])
    assert len(checks) > 2


def test_labels_of_a_partition_that_is_to_go_are_not_gathered_any_more() -> None:
    leaving = SimpleNamespace(alive=True, behind=True)
    worker: Any = SimpleNamespace(
        _assignment=SimpleNamespace(among=lambda _: [leaving]),
        _feed=SimpleNamespace(advance=lambda _: True),
        _delivery=SimpleNamespace(settled=lambda partitions: not any(each.behind for each in partitions)),
    )
    assert Worker._settled(worker, {CUT})


def test_a_worker_that_the_group_has_put_out_waits_for_nothing_in_flight_when_it_is_to_end() -> None:
    """Its partitions are lost, which only polls tell: it would wait for its whole grace. Others it does wait for."""
    paused: list[TopicPartition] = []
    polled: list[int] = []
    worker: Any = SimpleNamespace(
        _lease=SimpleNamespace(is_out=lambda: True), _raise_thread_error=lambda: None, _settled=lambda _: False
    )
    Worker._drain(worker, time.monotonic() + 60)
    worker._lease.is_out = lambda: False
    states = [MemberState.REBALANCING, MemberState.STABLE, MemberState.STABLE]
    worker._consumer = SimpleNamespace(
        group_metadata=lambda: SimpleNamespace(state=states.pop(0)), assignment=lambda: {CUT}, pause=paused.append
    )
    worker._assignment = SimpleNamespace(held={})
    worker._poll = lambda _: polled.append(len(paused))
    settled = iter([False, True])
    worker._settled = lambda _: next(settled)
    Worker._drain(worker, time.monotonic() + 60)
    assert not states
    assert paused == [CUT, CUT]
    assert polled == [1, 2]


def test_a_worker_that_finishes_what_is_in_flight_is_live() -> None:
    """Such polls didn't count: after 15 s /livez turned red, and a supervisor may kill what is red."""
    live: list[bool] = []
    worker: Any = SimpleNamespace(
        _lease=SimpleNamespace(is_out=lambda: False),
        _raise_thread_error=lambda: None,
        _settled=lambda _: len(live) == 2,
        _consumer=SimpleNamespace(
            group_metadata=lambda: SimpleNamespace(state=MemberState.STABLE), assignment=set, pause=lambda *_: None
        ),
        _assignment=SimpleNamespace(held={}),
        _thread_error=None,
        _last_poll=time.monotonic() - 60,
    )
    judge: Any = vars(Worker)["live"]
    worker._poll = lambda _: live.append(judge.fget(worker))
    Worker._drain(worker, time.monotonic() + 60)
    assert live == [False, True]


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        ([True, True], "texts worker has read all; stopping"),
        ([True, False], "texts worker stopping: finishing what is in flight"),
        ([], "texts worker stopping: finishing what is in flight"),
    ],
)
def test_a_backfill_that_is_through_says_so(ended: list[bool], message: str, caplog: pytest.LogCaptureFixture) -> None:
    """It said that it finished what was in flight, as if somebody had stopped it."""
    caplog.set_level("INFO")
    nothing = SimpleNamespace(start=lambda: None)
    stop = threading.Event()
    stop.set()
    worker: Any = SimpleNamespace(
        kind=SimpleNamespace(name="texts", settings=SimpleNamespace(input_topic="in", output_topic="out")),
        _keeper=None,
        _publisher=nothing,
        _recovery=nothing,
        _assignment=[SimpleNamespace(ended=each) for each in ended],
        _finish=lambda: None,
    )
    Worker.run(worker, stop)
    assert caplog.messages[1:] == [message]
