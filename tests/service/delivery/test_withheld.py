"""When a dead-letter topic is tried again, and what is logged about it."""

import logging

import pytest

from service.delivery import withheld
from service.delivery.withheld import LONGEST_RETRY_S, QUIET_S, RETRY_S, TELL_EVERY_S, Withheld
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(withheld, "time", clock)
    return clock


def test_a_topic_that_is_known_is_never_withheld(clock: Clock) -> None:
    assert not Withheld().holds("dead", lambda _: True)


def test_a_topic_that_a_new_producer_does_not_know_yet_is_waited_for_in_silence(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    topics = Withheld()
    assert topics.holds("dead", lambda _: False)
    clock.now += QUIET_S / 2
    assert not topics.holds("dead", lambda _: True)
    topics.written("dead")
    assert caplog.messages == []


def test_a_topic_that_is_gone_is_looked_for_later_and_later_and_named_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    topics, looked = Withheld(), list[float]()

    def knows(topic: str) -> bool:
        looked.append(clock.now)
        return False

    for _ in range(1000):
        assert topics.holds("dead", knows)
        clock.now += 0.2
    assert looked[-1] - looked[-2] == pytest.approx(LONGEST_RETRY_S, abs=0.5)
    assert 200 / TELL_EVERY_S <= len(caplog.messages) <= 1 + 200 / TELL_EVERY_S
    assert all("can't go to dead" in message for message in caplog.messages)


def test_many_letters_that_fail_for_one_reason_are_one_failure(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    topics = Withheld()
    for _ in range(100):
        topics.failed("dead", "not allowed")
    assert len(caplog.messages) == 1
    clock.now += RETRY_S
    assert not topics.holds("dead", lambda _: True)
    topics.failed("dead", "not allowed")
    clock.now += RETRY_S
    assert topics.holds("dead", lambda _: True)


def test_it_is_logged_when_a_topic_that_was_named_can_be_written_again(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    topics = Withheld()
    topics.failed("dead", "not allowed")
    topics.written("dead")
    topics.written("dead")
    assert caplog.messages[1:] == ["dead letters go to dead again"]
