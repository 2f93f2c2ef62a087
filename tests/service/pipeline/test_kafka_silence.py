"""How long Kafka has been silent, at any moment and whether or not anything is asked of it."""

import pytest
from kafka.structs import TopicPartition

from ingest.consumer.fetch_progress import FetchProgress
from service.pipeline.kafka_silence import KafkaSilence
from tests.clock import Clock

SOURCE = TopicPartition("accelerometer", 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.pipeline.kafka_silence.time", clock)
    return clock


def answer(fetch_progress: FetchProgress, sent_at: float) -> None:
    fetch_progress.note_response([SOURCE], sent_at, {SOURCE: 7})


def test_a_worker_that_asks_for_nothing_waits_for_nothing(clock: Clock) -> None:
    silence = KafkaSilence(FetchProgress(), "kafka:9092")
    assert silence.silence_s() == 0
    silence.notice(fetching=False)
    clock.now += 600
    assert silence.silence_s() == 0


def test_silence_begins_with_the_last_fetch_that_was_answered(clock: Clock) -> None:
    fetch_progress = FetchProgress()
    silence = KafkaSilence(fetch_progress, "kafka:9092")
    silence.notice(fetching=True)
    clock.now += 3
    assert silence.silence_s() == 3
    answer(fetch_progress, clock.now)
    clock.now += 40
    assert silence.silence_s() == 40
    answer(fetch_progress, clock.now)
    assert silence.silence_s() == 0


def test_what_was_not_asked_for_is_no_silence_when_it_is_asked_for_again(clock: Clock) -> None:
    """Nothing is fetched while all partitions are paused, nor by whoever holds none."""
    fetch_progress = FetchProgress()
    silence = KafkaSilence(fetch_progress, "kafka:9092")
    silence.notice(fetching=True)
    answer(fetch_progress, clock.now)
    silence.notice(fetching=False)
    clock.now += 600
    silence.notice(fetching=True)
    clock.now += 2
    assert silence.silence_s() == 2


def test_silence_is_logged_once_and_so_is_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fetch_progress = FetchProgress()
    silence = KafkaSilence(fetch_progress, "kafka:9092")
    for _ in range(20):
        silence.notice(fetching=True)
        clock.now += 1
    answer(fetch_progress, clock.now)
    silence.notice(fetching=True)
    silence.notice(fetching=True)
    assert caplog.messages == [
        "no answer from Kafka at kafka:9092 for 5 s; trying on",
        "Kafka answers again, after 20 s",
    ]
