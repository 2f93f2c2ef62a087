"""Records sent in bulk to Apache Kafka itself, and read back by another client library."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.errors import MessageSizeTooLargeError
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata, TopicPartition

from ingest.client.errors import IngestError
from ingest.messages.labels import encode_activities
from ingest.producer.bulk import BulkProducer
from ingest.producer.producer import close_producer, open_producer
from ingest.producer.transactions import AbortableError, FencedError, Transactions
from ingest.record_batches.bodies import Bodies, Outgoing, pack, unpack
from service.broker.node import Broker
from service.kafka_admin.topics import admin_client
from tests.kafka.outside_client import read_topic
from tests.test_rooms import ROOT

LABELS = ("Sitting", "Standing", "Walking")


@contextmanager
def opened(broker: Broker, **settings: Any) -> Iterator[BulkProducer]:
    producer = open_producer(bootstrap_servers=broker.bootstrap_servers, client_id="test", **settings)
    try:
        yield producer
    finally:
        close_producer(producer, 5.0)


@contextmanager
def transacting(broker: Broker) -> Iterator[Transactions]:
    transactions = Transactions(
        bootstrap_servers=broker.bootstrap_servers,
        client_id="test",
        transactional_id=uuid.uuid4().hex,
        timeout_s=10.0,
        deadline_s=10.0,
    )
    try:
        yield transactions
    finally:
        transactions.close(5.0)


def activities(count: int, first: int = 0) -> Bodies:
    random = np.random.default_rng(first)
    ids = [f"手表-{number}".encode() for number in range(first, first + count)]
    return encode_activities(
        device_id=np.frombuffer(bytearray(b"".join(text.ljust(128, b"\0") for text in ids)), np.uint8).reshape(-1, 128),
        id_size=np.array([len(text) for text in ids], np.int32),
        start_ms=np.arange(count) * 2000,
        probabilities=random.dirichlet(np.ones(len(LABELS)), count).astype(np.float32),
        familiarity=random.random(count, np.float32),
        smoothed=random.integers(-1, len(LABELS), count),
        measured=np.full(count, 80, np.int32),
        longest_gap_ms=np.full(count, 50, np.int32),
        by_silence=np.zeros(count, bool),
        source_offset=np.arange(first, first + count),
        source_partition=3,
        labels=LABELS,
        model="model@1",
        bundle_digest="0" * 64,
    )


def numbered(first: int, stop: int, size: int = 0) -> Bodies:
    return pack((b"key", b"%d" % number + bytes(size), []) for number in range(first, stop))


def read(broker: Broker, topic: str, count: int) -> list[Any]:
    return read_topic(broker.bootstrap_servers, topic, until=lambda seen: len(seen) >= count)


def read_numbers(broker: Broker, topic: str, count: int) -> list[int]:
    """The numbers of `numbered` records, and of what comes after them within a second."""
    last: list[float] = [0, time.monotonic()]

    def settled(seen: list[Any]) -> bool:
        if len(seen) != last[0]:
            last[:] = [len(seen), time.monotonic()]
        return len(seen) >= count and time.monotonic() - last[1] > 1

    found = read_topic(broker.bootstrap_servers, topic, until=settled, timeout_s=60)
    return [int((message.value() or b"").rstrip(b"\0")) for message in found]


def as_outgoing(message: Any) -> Outgoing:
    return message.key(), message.value(), message.headers()


def test_a_partition_that_was_added_since_the_topic_was_looked_at_is_written(
    broker: Broker, topic: Callable[..., str]
) -> None:
    """For five minutes a producer knows a topic as it was.

    A worker that took a partition whose labels went to a new one recovered it again and again for so long, and exactly
    once every other along with it.
    """
    name = topic(1)
    with opened(broker) as producer:
        producer.send_bodies(TopicPartition(name, 0), numbered(0, 1), 1_700_000_000_000).get(30)
        with admin_client(broker.bootstrap_servers) as admin:
            admin.create_partitions({name: 3})
        producer.send_bodies(TopicPartition(name, 2), numbered(1, 2), 1_700_000_000_000).get(30)
        with pytest.raises(ValueError, match="Unrecognized partition 3"):
            producer.send_bodies(TopicPartition(name, 3), numbered(2, 3), 1_700_000_000_000)
    assert sorted(read_numbers(broker, name, 2)) == [0, 1]


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_is_sent_in_bulk_is_on_the_topic_with_its_headers_timestamps_and_offsets(
    broker: Broker, topic: Callable[..., str], idempotent: bool
) -> None:
    name, pieces = topic(2), [activities(2000), activities(3, first=2000), activities(1, first=2003)]
    with opened(broker, idempotent=idempotent) as producer:
        sendings = [
            producer.send_bodies(TopicPartition(name, 1), bodies, 1_700_000_000_000 + number)
            for number, bodies in enumerate(pieces)
        ]
        assert [sending.get(20) for sending in sendings] == [1999, 2002, 2003]
    messages = read(broker, name, 2004)
    assert [as_outgoing(message) for message in messages] == [record for piece in pieces for record in unpack(piece)]
    assert [message.offset() for message in messages] == list(range(2004))
    assert {message.partition() for message in messages} == {1}
    stamps = [message.timestamp()[1] - 1_700_000_000_000 for message in messages]
    assert stamps == [0] * 2000 + [1] * 3 + [2]


def test_what_is_sent_together_wakes_the_sender_once(broker: Broker, topic: Callable[..., str]) -> None:
    """A request costs as much for one label as for a hundred, and each call woke the sender for one."""
    name = topic(3)
    with opened(broker, idempotent=True) as producer:
        producer.send_bodies(TopicPartition(name, 0), numbered(0, 1), 1000).get(20)  # the topic is new to it
        wake_ups, wake_up = [], producer._sender.wakeup
        producer._sender.wakeup = lambda: wake_ups.append(wake_up())
        with producer.together():
            sendings = [
                producer.send_bodies(TopicPartition(name, partition), numbered(0, 1), 1000) for partition in range(3)
            ]
            assert not wake_ups
        assert [sending.get(20) for sending in sendings] == [1, 0, 0]
        assert len(wake_ups) == 1
        assert producer.send_bodies(TopicPartition(name, 1), numbered(1, 2), 1000).get(20) == 1
        assert len(wake_ups) == 2


def test_a_transaction_holds_what_is_sent_in_bulk_and_singly_and_an_aborted_one_can_be_said_again(
    broker: Broker, topic: Callable[..., str]
) -> None:
    labels, letters = topic(), topic()
    where, bodies = TopicPartition(labels, 0), numbered(0, 900, size=500)
    offsets = {TopicPartition(labels, 0): OffsetAndMetadata(1, "", -1)}
    with transacting(broker) as transactions:
        for _ in range(2):
            transactions.begin()
            sendings = [transactions.send_bodies(where, bodies, 1000)]
            sendings.append(transactions.send(labels, value=b"900", partition=0))
            sendings.append(transactions.send_bodies(where, numbered(901, 903), 1000))
            sendings.append(transactions.send(letters, value=b"letter"))
            transactions.await_sends(sendings)
            stranger = ConsumerGroupMetadata(f"group-{labels}", 3, "nobody", None, MemberState.STABLE)
            with pytest.raises(AbortableError):
                transactions.commit(offsets, stranger)  # of a member that isn't one
            transactions.abort()
        transactions.begin()
        first = transactions.send_bodies(where, bodies, 1000)
        letter = transactions.send(letters, value=b"letter")
        second = transactions.send_bodies(where, numbered(900, 903), 1000)
        transactions.await_sends([first, letter, second])
        group = ConsumerGroupMetadata(f"group-{labels}", -1, "", None, MemberState.UNJOINED)
        transactions.commit(offsets, group)
        # 903 records and a marker of each transaction that was aborted
        assert (first.get(0), second.get(0)) == (2 * 904 + 899, 2 * 904 + 902)
    assert read_numbers(broker, labels, 903) == list(range(903))
    assert [message.value() for message in read(broker, letters, 1)] == [b"letter"]


def test_a_topic_of_small_messages_takes_labels_in_smaller_batches(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(max_message_bytes="2000")
    with opened(broker) as producer:
        sendings = [
            producer.send_bodies(TopicPartition(name, 0), numbered(0, 40, size=1200), 1000),
            producer.send_bodies(TopicPartition(name, 0), numbered(40, 60), 1000),
        ]
        assert [sending.get(30) for sending in sendings] == [39, 59]
    assert read_numbers(broker, name, 60) == list(range(60))


def test_a_transaction_on_a_topic_of_small_messages_is_committed_whole(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic(max_message_bytes="2000")
    where = TopicPartition(name, 0)
    with transacting(broker) as transactions:
        transactions.begin()
        sendings = [transactions.send_bodies(where, numbered(0, 20, size=1200), 1000)]
        sendings.append(transactions.send_bodies(where, numbered(20, 30), 1000))
        transactions.await_sends(sendings)
        group = ConsumerGroupMetadata(f"group-{name}", -1, "", None, MemberState.UNJOINED)
        transactions.commit({where: OffsetAndMetadata(1, "", -1)}, group)
    assert read_numbers(broker, name, 30) == list(range(30))


def test_one_label_that_is_too_large_for_its_topic_fails_and_the_others_are_there(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic(max_message_bytes="2000")
    values = [b"0", b"1" + bytes(3000), b"2"]
    with opened(broker) as producer:
        sending = producer.send_bodies(TopicPartition(name, 0), pack((b"key", value, []) for value in values), 1000)
        with pytest.raises(MessageSizeTooLargeError):
            sending.get(30)
    assert 1 not in read_numbers(broker, name, 1)


def test_a_partition_that_is_not_there_is_an_error(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(1)
    with opened(broker) as producer, pytest.raises(ValueError, match="Unrecognized partition 1"):
        producer.send_bodies(TopicPartition(name, 1), numbered(0, 1), 1000)
    with transacting(broker) as transactions:
        transactions.begin()
        with pytest.raises(FencedError, match="Unrecognized partition 7"):
            transactions.send_bodies(TopicPartition(name, 7), numbered(0, 1), 1000)


def test_a_kafka_python_whose_batches_need_more_is_refused(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryRecordsBuilder, "compact", lambda *_: None, raising=False)
    with pytest.raises(IngestError, match=r"don't fit together \(BulkRecords\.compact\): install the version in const"):
        open_producer(bootstrap_servers=broker.bootstrap_servers, client_id="test")


def test_a_broker_that_restarts_loses_nothing_and_repeats_nothing(broker: Broker, tmp_path: Path) -> None:
    own = Broker(tmp_path / "own", heap="512m")
    with own:
        with admin_client(own.bootstrap_servers) as admin:
            admin.create_topics({"labels": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        command = [sys.executable, "-m", "tests.kafka.bulk_sender", own.bootstrap_servers, "labels"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as sender:
            try:
                assert sender.stdout is not None
                assert sender.stdout.readline() == "ready\n"
                own.stop()
                own.start()
                said, _ = sender.communicate(timeout=90)
            finally:
                sender.kill()
        last_offsets, count = json.loads(said)
        found = read_numbers(own, "labels", count)
        assert found == list(range(count))
        assert len(last_offsets) > 10
        assert last_offsets == sorted(last_offsets)
        assert last_offsets[-1] == count - 1
