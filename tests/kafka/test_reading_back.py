"""Where a worker goes on, and which labels it reads back before, where clocks and open transactions are in the way."""

import time
from collections import Counter
from collections.abc import Callable

import confluent_kafka

from tests.kafka.expected import expected_windows
from tests.kafka.outside_client import producer, send
from tests.kafka.stage import Stage, sample, walk
from tests.kafka.worker_process import running_worker
from tests.windowing.reference import Window

AHEAD_MS = 120_000


def test_labels_of_records_from_a_clock_that_is_ahead_are_read_back_all_the_same(stage: Callable[..., Stage]) -> None:
    """With other settings, labels since the rewind point are looked up by its record's timestamp, the sender's."""
    here = stage(delivery="exactly_once")
    readings = walk("phone", 30, seed=6)
    windows = expected_windows([[reading] for reading in readings])
    client = producer(here.broker.bootstrap_servers)

    def send_ahead(rows: slice) -> None:
        at = int(1000 * time.time()) + AHEAD_MS
        send(client, here.input, [sample(reading) for reading in readings[rows]], partition=0, timestamp=at)

    half = expected_windows([[reading] for reading in readings[:400]])
    with running_worker(here.log, *here.flags):
        send_ahead(slice(0, 400))
        assert len(here.labels(len(half))) == len(half)
    with running_worker(here.log, *here.flags, "--activity.lateness-slots", "8") as worker:
        send_ahead(slice(400, None))
        check_once(here, windows)
        assert worker.metric("stridecast_reread_labels_total") > 0


def test_a_group_reset_to_the_latest_record_while_a_transaction_is_open_goes_on_there(
    stage: Callable[..., Stage],
) -> None:
    """What is committed ends before it; that was taken for a log that had been cut off, and all of it was labelled."""
    here = stage()
    here.send([sample(reading) for reading in walk("before", 20, seed=6)])
    hangs = producer(here.broker.bootstrap_servers, **{"transactional.id": here.input})
    hangs.init_transactions()
    hangs.begin_transaction()
    _, value, _ = sample(walk("in a transaction", 1, seed=1)[0])
    hangs.produce(here.input, value=value, partition=0)
    hangs.flush()
    reset_to_latest(here, f"group-{here.input}")

    after = walk("after", 12, seed=7)
    windows = expected_windows([[reading] for reading in after])
    with running_worker(here.log, *here.flags) as worker:
        worker.wait_to_say(f"took {here.input}[0]")
        hangs.commit_transaction()
        here.send([sample(reading) for reading in after])
        check_once(here, windows)
        assert worker.metric("stridecast_samples_total") == len(after)


def test_a_recovery_that_an_open_transaction_holds_up_has_an_age_until_it_ends(stage: Callable[..., Stage]) -> None:
    here = stage()
    walked = walk("walks", 20, seed=8)
    windows = expected_windows([[reading] for reading in walked])
    with running_worker(here.log, *here.flags) as worker:
        here.send([sample(reading) for reading in walked])
        check_once(here, windows)
        worker.wait_for("stridecast_recovery_age_seconds", at_most=0)
        assert worker.terminate() == 0
    hangs = producer(here.broker.bootstrap_servers, **{"transactional.id": here.output})
    hangs.init_transactions()
    hangs.begin_transaction()
    hangs.produce(here.output, value=b"never committed", partition=0)
    hangs.flush()
    with running_worker(here.log, *here.flags) as worker:
        worker.wait_for("stridecast_recovery_age_seconds", 2)
        hangs.abort_transaction()
        worker.wait_for("stridecast_recovery_age_seconds", at_most=0)


def check_once(here: Stage, windows: list[Window]) -> None:
    said = Counter(label.identity for label in here.labels(len(windows)))
    assert said == {(window.device_id, window.start_ms): 1 for window in windows}


def reset_to_latest(here: Stage, group: str) -> None:
    """As `kafka-consumer-groups --reset-offsets --to-latest` does, which looks beyond what is committed."""
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": here.broker.bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
        }
    )
    place = confluent_kafka.TopicPartition(here.input, 0)
    _, end = client.get_watermark_offsets(place)
    client.commit(offsets=[confluent_kafka.TopicPartition(here.input, 0, end)], asynchronous=False)
    client.close()
