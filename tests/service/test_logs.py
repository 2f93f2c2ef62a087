"""What of kafka-python's own remarks reaches the log."""

import logging

import pytest

from service import logs
from service.logs import ClientFilter


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


def test_the_lines_of_others_are_never_left_out() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    assert all(chosen.filter(remark("took %s", "in[0]", logger="service.worker")) for _ in range(3))


def test_a_coordinator_that_is_not_one_yet_is_left_out_and_one_that_has_died_is_not() -> None:
    chosen = ClientFilter(clock=lambda: 0.0)
    text = "Marking the coordinator dead (node %s) for group %s: %s."
    assert not chosen.filter(remark(text, 1, "group", "[Error 16] NotCoordinatorError"))
    assert chosen.filter(remark(text, 1, "group", "KafkaConnectionError: 111 ECONNREFUSED"))


def test_the_topics_of_a_groups_other_members_may_be_unknown_at_first() -> None:
    assert not ClientFilter(clock=lambda: 0.0).filter(remark("No partition metadata for topic texts"))


def test_a_connection_that_is_looked_at_once_more_after_its_end_is_left_out_and_one_that_breaks_is_not() -> None:
    """A traceback stood in the log of a worker that had just ended as it should."""
    text = "%s: Error receiving network data closing socket"
    for error, wanted in [
        (AttributeError("'NoneType' object has no attribute 'recv'"), False),
        (OSError("reset"), True),
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
