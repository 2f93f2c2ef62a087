"""Topics on a real broker."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from service.broker.node import Broker
from service.kafka_admin import topics
from service.kafka_admin.topics import (
    BrokerUnreachable,
    TopicRefused,
    TopicSpec,
    TopicState,
    admin_client,
    ensure_topics,
    inspect_topic,
)


def _name() -> str:
    return f"test-{uuid4().hex[:12]}"


def _inspect(broker: Broker, spec: TopicSpec) -> TopicState:
    with admin_client(broker.bootstrap_servers) as admin:
        return inspect_topic(admin, spec)


def test_missing_topics_are_created_with_their_partitions(broker: Broker) -> None:
    readings, dead_letters = _name(), _name()
    states = ensure_topics(broker.bootstrap_servers, [TopicSpec(readings, 3), TopicSpec(dead_letters, 1)])
    assert [str(state) for state in states] == [
        f"{readings}: created with 3 partitions",
        f"{dead_letters}: created with 1 partition",
    ]


def test_a_topic_that_exists_is_found_and_left_alone(broker: Broker) -> None:
    spec = TopicSpec(_name(), 2)
    ensure_topics(broker.bootstrap_servers, [spec])
    (state,) = ensure_topics(broker.bootstrap_servers, [spec])
    assert str(state) == f"{spec.name}: exists with 2 partitions"


@pytest.mark.parametrize("asked", [1, 5])
def test_a_topic_with_other_partitions_is_neither_shrunk_nor_grown(
    broker: Broker, topic: Callable[..., str], asked: int
) -> None:
    name = topic(partitions=3)
    (state,) = ensure_topics(broker.bootstrap_servers, [TopicSpec(name, asked)])
    assert (state.partitions, state.created) == (3, False)
    assert state.warnings == (f"{asked} were asked for, and a topic that exists is never repartitioned",)


def test_nothing_is_said_of_a_number_of_partitions_that_nobody_asked_for(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic(partitions=3)
    (state,) = ensure_topics(broker.bootstrap_servers, [TopicSpec(name, 8, any_number=True)])
    assert str(state) == f"{name}: exists with 3 partitions"


def test_other_settings_than_asked_for_are_warned_of(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(retention_ms="1000")
    (state,) = ensure_topics(broker.bootstrap_servers, [TopicSpec(name, 1, {"retention.ms": "5000"})])
    assert state.warnings == ("retention.ms is 1000, and 5000 was asked for",)


def test_a_created_topic_of_labels_keeps_as_long_as_its_input(broker: Broker, topic: Callable[..., str]) -> None:
    readings = topic(retention_ms="987654321", retention_bytes="5000000")
    labels = TopicSpec(_name(), 1, labels_of=readings)
    (state,) = ensure_topics(broker.bootstrap_servers, [labels])
    assert state.warnings == ()
    as_asked = {"retention.ms": "987654321", "retention.bytes": "-1", "cleanup.policy": "delete"}
    state = _inspect(broker, TopicSpec(labels.name, 1, as_asked))
    assert state.warnings == ()


def test_labels_created_together_with_their_input_keep_as_long_whichever_is_named_first(broker: Broker) -> None:
    readings = TopicSpec(_name(), 1, {"retention.ms": "1234567890"})
    labels = TopicSpec(_name(), 1, labels_of=readings.name)
    states = ensure_topics(broker.bootstrap_servers, [labels, readings])
    assert [(state.name, state.created, state.warnings) for state in states] == [
        (labels.name, True, ()),
        (readings.name, True, ()),
    ]
    state = _inspect(broker, TopicSpec(labels.name, 1, {"retention.ms": "1234567890"}))
    assert state.warnings == ()


def test_a_compacted_topic_of_labels_is_warned_of(broker: Broker, topic: Callable[..., str]) -> None:
    labels = TopicSpec(topic(cleanup_policy="compact"), 1, labels_of=topic())
    (state,) = ensure_topics(broker.bootstrap_servers, [labels])
    assert state.warnings == ("it is compacted, which loses all but the last label of each key",)


def test_inspecting_creates_nothing(broker: Broker) -> None:
    spec = TopicSpec(_name(), 1)
    for _ in range(2):
        state = _inspect(broker, spec)
        assert str(state) == f"{spec.name}: is missing"


def test_a_setting_that_kafka_does_not_know_is_refused_by_name(broker: Broker) -> None:
    spec = TopicSpec(_name(), 1, {"retention.msec": "5"})
    with pytest.raises(
        TopicRefused, match=rf"refused to create topic {spec.name}: Unknown topic config name: retention.msec"
    ):
        ensure_topics(broker.bootstrap_servers, [spec])


def test_an_impossible_number_of_partitions_is_refused(broker: Broker) -> None:
    with pytest.raises(TopicRefused, match="partitions"):
        ensure_topics(broker.bootstrap_servers, [TopicSpec(_name(), 0)])


def test_an_impossible_name_is_refused(broker: Broker) -> None:
    with pytest.raises(TopicRefused, match="what/ever"):
        ensure_topics(broker.bootstrap_servers, [TopicSpec("what/ever", 1)])


@contextmanager
def _listener_that_never_answers() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_port_where_nothing_listens_is_named() -> None:
    with _listener_that_never_answers() as address:
        pass
    with (
        pytest.raises(BrokerUnreachable, match=f"no Kafka broker answered at {address} within 1 s"),
        admin_client(address, timeout_s=1),
    ):
        pass


def test_a_port_where_something_else_listens_is_named() -> None:
    with (
        _listener_that_never_answers() as address,
        pytest.raises(BrokerUnreachable, match=f"no Kafka broker answered at {address} within 1 s"),
        admin_client(address, timeout_s=1),
    ):
        pass


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(BrokerUnreachable, match="'localhost:kafka' is no host:port"):
        ensure_topics("localhost:kafka", [TopicSpec("texts", 1)])


def test_labels_whose_input_may_not_be_looked_at_are_not_created_with_any_retention(
    broker: Broker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of settings that a user may not see kafka-python tells none (see test_security); here of nobody's."""
    monkeypatch.setattr(topics, "_settings", lambda *_: {})
    labels = TopicSpec(_name(), 1, labels_of=topic())
    with pytest.raises(
        TopicRefused, match=f"can't create topic {labels.name}, .*: the ACL DESCRIBE_CONFIGS is missing$"
    ):
        ensure_topics(broker.bootstrap_servers, [labels])
    monkeypatch.undo()
    state = _inspect(broker, labels)
    assert state.partitions is None
