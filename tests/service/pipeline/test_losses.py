"""What the log says of records that get no label."""

import pytest
from kafka.structs import TopicPartition

from ingest.record_batches.record_columns import Records
from ingest.rejections import Reason, Rejection
from service.kind import Stream
from service.pipeline.losses import Losses
from tests.ingest.records import HandMade

SOURCE = TopicPartition("accelerometer", 3)
RECORDS = Records.of(HandMade(b"x", offset=offset) for offset in range(10, 20))


class LateStream(Stream):
    """Counts what the test says."""

    def __init__(self, readings: int, late: int) -> None:
        self.counts = readings, late

    def take_late(self) -> tuple[int, int]:
        taken, self.counts = self.counts, (0, 0)
        return taken


def refusals(*rows: tuple[int, Reason, str]) -> list[Rejection]:
    return [Rejection(*row) for row in rows]


def test_refused_records_are_logged_by_reason_with_the_last_one_and_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody sent rubbish; a quarter of the records were refused, and the log said nothing at all."""
    losses = Losses()
    losses.notice(100.0, [])
    losses.refused(SOURCE, RECORDS, refusals((0, Reason.NOT_JSON, "no"), (1, Reason.NOT_JSON, "no")))
    losses.notice(104.0, [])
    assert caplog.messages == []  # others may come with it
    losses.refused(SOURCE, RECORDS, refusals((7, Reason.MISSING_FIELD, "Sample.timestamp: the field is missing")))
    losses.notice(105.0, [])
    first = (
        "3 records were refused (2 not_json, 1 missing_field), the last at accelerometer[3]@17: "
        "Sample.timestamp: the field is missing; see stridecast dead-letters"
    )
    assert caplog.messages == [first]
    losses.refused(SOURCE, RECORDS, refusals((8, Reason.NOT_JSON, "no")))
    for now in range(106, 165):
        losses.notice(now, [])
    assert caplog.messages == [first]
    losses.notice(165.0, [])
    assert caplog.messages[1:] == [
        "1 record was refused (not_json), at accelerometer[3]@18: no; see stridecast dead-letters"
    ]
    losses.notice(300.0, [])
    losses.tell_refused()
    assert len(caplog.messages) == 2
    losses.refused(SOURCE, RECORDS, refusals((9, Reason.NOT_JSON, "no")))
    losses.tell_refused()  # at the end
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(("readings", "late", "is_logged"), [(200, 101, True), (200, 100, False), (9, 9, False)])
def test_readings_are_logged_as_late_where_most_of_them_are(
    readings: int, late: int, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever replayed a recording saw no labels, and a log without a word of why."""
    losses = Losses()
    losses.notice(100.0, [LateStream(readings, late), LateStream(0, 0)])
    expected = [
        "101 of the last 200 readings were dropped as late: their devices had sent newer ones, by more than "
        "activity.lateness_slots allows; is this a replay of old readings?"
    ]
    assert caplog.messages == (expected if is_logged else [])
    losses.notice(110.0, [LateStream(readings, late)])
    assert len(caplog.messages) == is_logged
    losses.notice(160.0, [LateStream(readings, late)])
    assert len(caplog.messages) == 2 * is_logged
