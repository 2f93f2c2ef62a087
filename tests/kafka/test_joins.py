"""Members of one group that read different topics, as `worker all` has them, on Apache Kafka itself."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import kafka
import pytest
from kafka.errors import InconsistentGroupProtocolError
from kafka.structs import MemberState, TopicPartition

from ingest.client.access import remedy
from ingest.consumer.consumer import open_consumer
from ingest.consumer.fetch_progress import FetchProgress
from ingest.consumer.lease import Lease
from ingest.consumer.rebalance_listener import RebalanceListener
from service.broker.node import Broker
from tests.ingest.batches import one_by_one
from tests.kafka.outside_client import producer, send

SESSION_S = 2.0


def member(
    broker: Broker, topic: str, group: str, released: Callable[[set[TopicPartition]], None] = lambda _: None
) -> kafka.KafkaConsumer:
    listener = RebalanceListener(
        assigned=lambda _: None,
        settled=lambda _: True,
        snapshots=lambda _: {},
        committed=lambda *_: None,
        released=released,
        nothing_in_flight=lambda _: True,
        clock=time.monotonic,
        deadline_s=0.0,
    )
    names: dict[str, Any] = {"group_id": group, "client_id": f"test-{topic}"}
    return open_consumer(
        topic,
        listener,
        FetchProgress(),
        bootstrap_servers=broker.bootstrap_servers,
        session_timeout_s=SESSION_S,
        **names,
    )


@contextlib.contextmanager
def polled(consumer: kafka.KafkaConsumer) -> Iterator[None]:
    """Poll in a thread of its own."""
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            consumer.poll(timeout_ms=50)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def poll_until(consumer: kafka.KafkaConsumer, reached: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        consumer.poll(timeout_ms=50)


def test_a_leader_whose_join_takes_longer_than_a_poll_is_stable_again(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """It stayed between two generations for ever, committed nothing, and was put out of the group for its silence.

    A leader joins again when it has heard of the other's topic. The assignment that it makes then takes away the
    reason for joining, and no later poll took in the answer.
    """
    group = f"group-{topic()}"
    leader = member(broker, topic(partitions=2), group)
    other = member(broker, topic(partitions=2), group)
    try:
        deadline = time.monotonic() + 20
        while not leader.assignment() and time.monotonic() < deadline:
            leader.poll(timeout_ms=100)
        quiet = 0  # polls of both, one after another, in which both were stable: longer than a heartbeat
        while quiet < 60 and time.monotonic() < deadline + 20:
            leader.poll(timeout_ms=50)
            other.poll(timeout_ms=50)
            states = {consumer.group_metadata().state for consumer in (leader, other)}
            quiet = quiet + 1 if states == {MemberState.STABLE} and leader.assignment() and other.assignment() else 0
        assert quiet == 60
    finally:
        leader.close(autocommit=False)
        other.close(autocommit=False)


def test_a_member_that_freezes_while_it_joins_loses_what_others_took_meanwhile(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept some partitions as if nothing had been, and committed others over their new owner's positions.

    The group put it out when its session was over. It joined again, as another member, and kafka-python tells a
    listener that partitions are lost only before a join begins, not when one is tried again.
    """
    name, released = topic(partitions=4), list[TopicPartition]()
    group = f"group-{name}"
    frozen, other = member(broker, name, group, released.extend), member(broker, name, group)
    coordinator, thawed = frozen._coordinator, threading.Event()
    lease = Lease(frozen, SESSION_S, time.monotonic)
    assert lease.is_out()
    poll_until(frozen, lambda: len(frozen.assignment()) == 4)
    assert lease.holds()
    answered = coordinator._process_join_group_response

    def freeze(*response: Any) -> Any:
        monkeypatch.undo()
        thawed.wait(30.0)
        return answered(*response)

    monkeypatch.setattr(coordinator, "_process_join_group_response", freeze)
    try:
        with polled(other), polled(frozen):
            deadline = time.monotonic() + 30
            while len(other.assignment()) < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not released
            assert not lease.holds()
            thawed.set()
            while len(frozen.assignment()) != 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            while len(other.assignment()) != 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert lease.holds()
        assert sorted(released) == [TopicPartition(name, partition) for partition in range(4)]
        assert frozen.assignment().isdisjoint(other.assignment())
    finally:
        thawed.set()
        frozen.close(autocommit=False)
        other.close(autocommit=False)


def test_a_member_reads_on_while_a_join_waits_for_another(broker: Broker, topic: Callable[..., str]) -> None:
    """The partitions of those that lived stood still until a dead worker's session was over, whenever one came."""
    name, group = topic(partitions=2), f"group-{topic()}"
    reading, silent = member(broker, name, group), member(broker, name, group)
    newcomer = None
    try:
        with polled(silent):
            poll_until(reading, lambda: len(reading.assignment()) == 1 and len(silent.assignment()) == 1)
        (held,) = reading.assignment()  # from here on the other member says no more than that it is there
        reading.seek(held, 0)
        reading.resume(held)
        newcomer = member(broker, name, group)
        with polled(newcomer):
            poll_until(reading, lambda: reading.group_metadata().state == MemberState.REBALANCING)
            for number in range(3):
                send(producer(broker.bootstrap_servers), name, [(b"key", b"%d" % number, [])], partition=held.partition)
                came: list[bytes] = []
                while not came:
                    came += [record.value for record in one_by_one(reading.poll(timeout_ms=50).get(held, []))]
                assert came == [b"%d" % number]
                assert reading.group_metadata().state == MemberState.REBALANCING
    finally:
        for consumer in (reading, silent, newcomer):
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)  # a join is under way, and would be waited for


def test_whose_group_is_another_programs_is_told_to_take_another(broker: Broker, topic: Callable[..., str]) -> None:
    """The worker ended with the name of an error alone."""
    name, group = topic(), f"group-{time.time_ns()}"
    other = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "partition.assignment.strategy": "range"}
    )
    other.subscribe([name])
    deadline = time.monotonic() + 20
    while not other.assignment():
        other.poll(0.1)
        assert time.monotonic() < deadline
    ours = member(broker, name, group)
    try:
        with pytest.raises(InconsistentGroupProtocolError) as refusal:
            ours.poll(timeout_ms=10_000)
        assert "choose another kafka.group_id" in remedy(refusal.value)
    finally:
        ours.close(autocommit=False, timeout_ms=1000)
        other.close()
