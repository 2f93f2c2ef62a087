"""Members of one group that read different topics, as `worker all` has them, on Apache Kafka itself."""

import time
from collections.abc import Callable
from typing import Any

import kafka
from kafka.structs import MemberState

from ingest.consumer import Handover, Hearing, open_consumer
from service.broker import Broker


def member(broker: Broker, topic: str, group: str) -> kafka.KafkaConsumer:
    handover = Handover(
        assigned=lambda _: None,
        settled=lambda _: True,
        snapshots=lambda _: {},
        committed=lambda *_: None,
        released=lambda _: None,
        let_go=lambda _: True,
        clock=time.monotonic,
        deadline_s=0.0,
    )
    names: dict[str, Any] = {"group_id": group, "client_id": f"test-{topic}"}
    return open_consumer(topic, handover, Hearing(), bootstrap_servers=broker.bootstrap_servers, **names)


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
