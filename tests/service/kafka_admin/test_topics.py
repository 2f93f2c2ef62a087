"""What is reported about a topic, without a broker."""

from service.configuration.settings import ActivitySettings, TextSettings
from service.kafka_admin.topic_specs import PARTITIONS, specs
from service.kafka_admin.topics import (
    TopicState,
    admin_client,
    count_brokers,
    replica_warnings,
    retention_warnings,
)
from tests.ingest.small_broker import SmallBroker

A_DAY = {"cleanup.policy": "delete", "retention.ms": "86400000", "retention.bytes": "-1"}


def test_labels_kept_exactly_as_long_as_their_readings_are_fine() -> None:
    assert retention_warnings(A_DAY, A_DAY, "accelerometer") == []


def test_labels_kept_for_ever_are_fine_whatever_the_readings() -> None:
    for_ever = A_DAY | {"retention.ms": "-1"}
    assert retention_warnings(for_ever, for_ever, "accelerometer") == []


def test_labels_kept_less_long_than_their_readings_are_warned_of() -> None:
    ninety_minutes = A_DAY | {"retention.ms": "5400000"}
    assert retention_warnings(ninety_minutes, A_DAY, "accelerometer") == [
        "it keeps 90 minutes (retention.ms), less than its input accelerometer, which keeps 24 hours"
    ]


def test_labels_that_age_while_their_readings_do_not_are_warned_of() -> None:
    compacted_readings = A_DAY | {"cleanup.policy": "compact"}
    assert retention_warnings(A_DAY, compacted_readings, "accelerometer") == [
        "it keeps 24 hours (retention.ms), less than its input accelerometer, which keeps everything"
    ]


def test_compacted_labels_are_warned_of() -> None:
    both = A_DAY | {"cleanup.policy": "compact,delete"}
    assert retention_warnings(both, A_DAY, "accelerometer") == [
        "it is compacted, which loses all but the last label of each key"
    ]


def test_labels_deleted_by_size_are_warned_of() -> None:
    by_size = A_DAY | {"retention.bytes": "1000000"}
    assert retention_warnings(by_size, A_DAY, "accelerometer") == [
        "it deletes by size (retention.bytes), which may take labels that a recovery needs"
    ]


def partition(leader: int, in_sync: list[int], replicas: list[int]) -> dict[str, object]:
    return {"leader_id": leader, "isr_nodes": in_sync, "replica_nodes": replicas}


def test_partitions_that_nobody_can_write_are_warned_of_and_one_broker_less_is_no_reason_to() -> None:
    well, one_away = partition(1, [1, 2, 3], [1, 2, 3]), partition(1, [1, 3], [1, 2, 3])
    two_away, gone = partition(1, [1], [1, 2, 3]), partition(-1, [2], [1, 2, 3])
    assert replica_warnings([well, one_away], 2, 3) == []
    assert replica_warnings([well, two_away, gone], 2, 3) == [
        "1 partition has no leader, and can't be read or written: brokers are away",
        "1 partition has fewer replicas in sync than min.insync.replicas (2), and can't be written: brokers are away",
    ]


def test_partitions_that_one_of_several_brokers_has_alone_are_warned_of() -> None:
    well, single = partition(1, [1, 2, 3], [1, 2, 3]), partition(1, [1], [1])
    assert replica_warnings([single, single], 2, 1) == []
    assert replica_warnings([single, well, single], 2, 3) == [
        "2 partitions have a single replica, though there are 3 brokers: what it holds is away while its broker is, "
        "and lost with its disk"
    ]


def test_a_state_reads_as_a_sentence() -> None:
    assert str(TopicState("texts", 1, True, ())) == "texts: created with 1 partition"
    assert str(TopicState("texts", None, False, ())) == "texts: is missing"
    assert (
        str(TopicState("texts", 3, False, ("6 were asked for",)))
        == "texts: exists with 3 partitions; but 6 were asked for"
    )


def test_each_kind_of_worker_has_an_input_labels_that_go_with_it_and_dead_letters_that_may_be_larger() -> None:
    topics = specs([ActivitySettings(), TextSettings(input_topic="reviews")], None)
    assert [(topic.name, topic.partitions, topic.labels_of) for topic in topics] == [
        ("accelerometer", PARTITIONS, None),
        ("activities", PARTITIONS, "accelerometer"),
        ("accelerometer.dead-letters", 1, None),
        ("reviews", PARTITIONS, None),
        ("text-labels", PARTITIONS, "reviews"),
        ("texts.dead-letters", 1, None),
    ]
    larger = {"max.message.bytes": str(2 * 1024 * 1024)}
    assert [dict(topic.config) for topic in topics] == 2 * [{}, {}, larger]


def test_the_brokers_of_kafka_before_3_7_are_counted() -> None:
    """`topics` and `doctor` ended with KeyError: kafka-python drops a field that these brokers don't send."""
    with SmallBroker() as broker, admin_client(broker.address) as admin:
        assert count_brokers(admin) == (1, 1)
