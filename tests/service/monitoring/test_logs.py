"""What of kafka-python's own remarks reaches the log."""

import logging
import ssl

import pytest

from service.monitoring import logs
from service.monitoring.logs import ClientFilter


def remark(text: str, *values: object, line: int = 1, logger: str = "kafka.net.manager") -> logging.LogRecord:
    return logging.LogRecord(logger, logging.WARNING, "manager.py", line, text, values, None)


def test_what_kafka_python_repeats_is_let_through_once_a_minute_with_how_often_it_was_not() -> None:
    now = 100.0
    chosen = ClientFilter(clock=lambda: now)
    assert chosen.filter(remark("failed: %s", "first"))
    now = 101.0
    assert not chosen.filter(remark("failed: %s", "second"))
    now = 159.9
    assert not chosen.filter(remark("failed: %s", "third"))
    now = 160.0
    again = remark("failed: %s", "fourth")
    assert chosen.filter(again)
    assert again.getMessage() == "failed: fourth (2 more like it were left out before)"
    now = 220.0
    last = remark("failed: %s", "fifth")
    assert chosen.filter(last)
    assert last.getMessage() == "failed: fifth"


def test_remarks_from_different_lines_of_kafka_python_do_not_hide_each_other() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    assert chosen.filter(remark("failed", line=1))
    assert chosen.filter(remark("failed", line=2))


def test_that_a_broker_is_not_reached_is_logged_once_a_minute_for_each() -> None:
    """Each client of a process tries each broker, several times a second."""
    now = 100.0
    chosen = ClientFilter(clock=lambda: now)
    first, second = (
        remark("can't connect to (%s)", broker, logger="ingest.client.connection") for broker in ("a:1", "b:1")
    )
    assert [chosen.filter(each) for each in (first, second, first, second)] == [True, True, False, False]
    now = 160.0
    assert chosen.filter(first)
    assert first.getMessage() == "can't connect to (a:1)"


def test_the_lines_of_others_are_never_left_out() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    assert all(chosen.filter(remark("took %s", "in[0]", logger="service.pipeline.worker")) for _ in range(3))


def test_a_coordinator_that_is_not_one_yet_is_left_out_and_one_that_does_not_answer_is_not() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    text = "Marking the coordinator dead (node %s) for group %s: %s."
    for error in ("[Error 16] NotCoordinatorError", "[Error 15] CoordinatorNotAvailableError"):
        assert not chosen.filter(remark(text, 1, "group", error, logger="kafka.coordinator"))
    assert chosen.filter(remark(text, 1, "group", "Heartbeat session expired", logger="kafka.coordinator"))


AWAY = "KafkaConnectionError: DNS Resolution failure"
REFUSED = "KafkaConnectionError: 111 ECONNREFUSED"
CUT_OFF = "KafkaConnectionError: socket disconnected"


@pytest.mark.parametrize(
    ("logger", "text"),
    [
        ("net.inet", "DNS lookup failed for nosuchhost.invalid:9092, gaierror(-2, 'Name or service not known')"),
        ("net.manager", f"Connection failed: {AWAY}"),
        ("net.connection", f"<KafkaConnection node_id=bootstrap-0 (disconnected)>: Connection lost: {AWAY}"),
        ("net.manager", f"Bootstrap connection to bootstrap-0 failed: {AWAY} (backoff 0.10 secs)"),
        ("net.manager", "Bootstrap bootstrap-0 not ready; waiting 0.10 secs"),
        ("net.manager", "Bootstrap failed: KafkaTimeoutError: Unable to bootstrap from ['nosuchhost.invalid:9092']"),
        ("net.manager", f"Connection failed: {REFUSED}"),
        ("net.transport", "<KafkaTCPTransport>: socket disconnected"),
        ("net.connection", "<KafkaConnection>: Request timed out after 30000 ms. Closing connection."),
        ("cluster", f"Metadata refresh: failed {CUT_OFF}"),
        ("cluster", "No broker metadata found in MetadataResponse -- ignoring."),  # Kafka 3.4 that has just begun
        ("coordinator", f"Error sending HeartbeatRequest to node 1 [{CUT_OFF}]"),
        ("coordinator", f"Marking the coordinator dead (node 1) for group stridecast: {CUT_OFF}."),
        ("consumer.fetcher", f"Fetch to node 1 failed: {CUT_OFF}"),
        ("producer.sender", f"<Sender>: Error sending produce request to node 1: {CUT_OFF}"),
    ],
)
def test_that_a_broker_is_away_is_left_to_the_worker_to_tell(logger: str, text: str) -> None:
    """A wrong address was greeted with six lines such as these before the one sentence that says what is wrong."""
    assert not ClientFilter(clock=lambda: 0.0).filter(remark(text, logger=f"kafka.{logger}"))


@pytest.mark.parametrize(
    ("logger", "text"),
    [
        ("net.connection", "<KafkaConnection>: SaslHandshake failed: UnsupportedSaslMechanismError"),
        ("net.manager", "Connection failed: SaslAuthenticationFailedError: no such user or password"),
        ("net.manager", "Connection failed: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        ("net.manager", "Connection failed: KafkaConnectionError: TLS fails (EOF): is kafka.security_protocol right?"),
        ("net.manager", "Connection failed: KafkaConnectionError: the token endpoint doesn't answer: timed out"),
        ("cluster", "Topic accelerometer is not authorized for this client"),
        ("coordinator.heartbeat", "Heartbeat failed: authorization error: stridecast"),
        ("coordinator.heartbeat", "Unhandled Heartbeat loop error: 'NoneType' object has no attribute 'x'"),
    ],
)
def test_what_only_kafka_python_knows_is_logged(logger: str, text: str) -> None:
    assert ClientFilter(clock=lambda: 0.0).filter(remark(text, logger=f"kafka.{logger}"))


def test_the_topics_of_a_groups_other_members_may_be_unknown_at_first() -> None:
    assert not ClientFilter(clock=lambda: 0.0).filter(remark("No partition metadata for topic texts"))


def test_a_connection_that_is_looked_at_once_more_after_its_end_is_left_out_and_what_nobody_expects_is_not() -> None:
    """A traceback stood in the log of a worker that had just ended as it should, or had lost its broker."""
    text = "%s: Error receiving network data closing socket"
    for error, wanted in [
        (AttributeError("'NoneType' object has no attribute 'recv'"), False),
        (ConnectionResetError("reset"), False),
        (ssl.SSLError("bad record"), True),
        (ValueError("reset"), True),
    ]:
        record = remark(text, "<transport>")
        record.exc_info = (type(error), error, None)
        assert ClientFilter(clock=lambda: 0.0).filter(record) == wanted


def test_that_the_clients_thread_was_held_up_is_left_out_and_that_it_failed_is_not() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    assert not chosen.filter(remark("Task %s blocked for 0.2 s", "fetch", logger="kafka.net.selector"))
    failed = remark("Unhandled exception in task %s:", "fetch", logger="kafka.net.selector", line=2)
    failed.levelno = logging.ERROR
    assert chosen.filter(failed)


def test_who_silences_kafka_python_silences_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo did, for what its clients say would run through its table; one logger had a level of its own."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    before = logging.getLogger("kafka").level
    try:
        logs.set_up("text")
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        assert not logging.getLogger("kafka.net.selector").isEnabledFor(logging.ERROR)
    finally:
        logging.getLogger("kafka").setLevel(before)


def test_a_connection_that_is_reset_is_logged_by_the_worker_in_whatever_words_the_system_has_for_it() -> None:
    """Of a broker that went away, one run in a few logged three lines of kafka-python's."""
    chosen = ClientFilter(clock=lambda: 0.0)
    lost = "Connection lost: KafkaConnectionError: [Errno 104] Connection reset by peer"
    assert not chosen.filter(remark(lost, logger="kafka.net.connection"))
    assert not chosen.filter(remark("Metadata refresh: failed %s", lost, logger="kafka.cluster"))
    assert chosen.filter(remark("the file %s is gone: [Errno 2] ssl", "ca.pem", logger="kafka.net.manager"))


@pytest.mark.parametrize(
    ("logger", "text"),
    [
        (
            "producer.sender",
            "<Sender>: Got error produce response on topic-partition out-1, retrying (inf attempts left): "
            "NotLeaderForPartitionError",
        ),
        ("producer.sender", "<Sender>: Error sending produce request to node 1: Cancelled"),
        (
            "producer.sender",
            "<Sender>: Aborting producer batches due to fatal error: KafkaTimeoutError: a batch expired",
        ),
        ("cluster", "Metadata refresh: failed Cancelled"),
        ("coordinator", "Marking the coordinator dead (node coordinator-1) for group g: Node Disconnected."),
        (
            "coordinator.heartbeat",
            "Heartbeat failed for group g: coordinator (node coordinator-2) is either not started or not valid",
        ),
        ("coordinator.heartbeat", "Heartbeat: local member_id was not recognized; this consumer needs to re-join"),
        ("coordinator.consumer", "OffsetCommit for group g failed: [Error 25] UnknownMemberIdError: g"),
        ("coordinator.consumer", "Unknown error fetching offsets for in-0: [Error 88] UnstableOffsetCommitError"),
        (
            "coordinator.consumer",
            "Rebalance listener RebalanceListener.on_partitions_lost for group g took 2.002s. Sync "
            "listeners block the consumer event loop",
        ),
        ("net.connection", "<KafkaConnection node_id=3 (disconnected)>: Connection lost: KafkaConnectionError"),
    ],
)
def test_leaders_and_coordinators_that_move_are_not_told_of(logger: str, text: str) -> None:
    """A restart of three brokers, one after the other, had each worker log a dozen lines such as these."""
    assert not ClientFilter(clock=lambda: 0.0).filter(remark(text, logger=f"kafka.{logger}"))


def test_that_replicas_are_missing_is_told_by_the_worker_once_a_minute() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    text = "<Sender>: Got error produce response on topic-partition out-1, retrying (inf attempts left): %s"
    assert not chosen.filter(remark(text, "NotEnoughReplicasError", logger="kafka.producer.sender"))
    ours = [
        remark("too few replicas of %s are in sync", topic, logger="ingest.producer.failing_batches")
        for topic in ("a", "b", "a")
    ]
    assert [chosen.filter(each) for each in ours] == [True, True, False]
