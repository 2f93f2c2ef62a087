from ingest.messages.dead_letters import NULL, DeadLetter, NullableValues, dead_letter
from ingest.messages.decode import decode
from ingest.rejections import Reason, Rejection
from tests.ingest.records import HandMade


def test_a_dead_letter_is_the_record_as_it_came_and_why_it_was_refused() -> None:
    record = HandMade(b"\xff{", b"phone-17", [("traceparent", b"00-1")], 1_700_000_000_123, offset=42)
    (rejection,) = decode([record])[1]
    assert dead_letter(record, rejection, "accelerometer", 3) == DeadLetter(
        key=b"phone-17",
        value=b"\xff{",
        headers=[
            ("traceparent", b"00-1"),
            ("error-reason", b"not_json"),
            (
                "error-detail",
                b"the value is not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
            ),
            ("source-topic", b"accelerometer"),
            ("source-partition", b"3"),
            ("source-offset", b"42"),
        ],
        timestamp=1_700_000_000_123,
    )


def test_a_record_that_was_refused_before_keeps_its_history_and_the_newest_reason_comes_last() -> None:
    first = dead_letter(HandMade(b"1", None, offset=7), Rejection(0, Reason.NOT_JSON, "a number"), "a", 0)
    again = HandMade(first.value, first.key, [*first.headers], first.timestamp, offset=8)
    second = dead_letter(again, Rejection(0, Reason.MISSING_FIELD, "no x"), "b", 1)
    assert second.headers[:5] == first.headers
    assert dict(second.headers) == {
        "error-reason": b"missing_field",
        "error-detail": b"no x",
        "source-topic": b"b",
        "source-partition": b"1",
        "source-offset": b"8",
    }


def test_details_and_topics_of_any_script_are_utf8() -> None:
    letter = dead_letter(HandMade(b""), Rejection(0, Reason.BAD_ID, "手表 \ud800"), "темa", 0)
    assert dict(letter.headers)["error-detail"].decode() == "手表 \\ud800"
    assert dict(letter.headers)["source-topic"].decode() == "темa"


def test_null_keys_and_values_stay_null_and_null_headers_become_empty() -> None:
    record = HandMade(None, None, [("a", None), ("b", b"")])
    letter = dead_letter(record, decode([record])[1][0], "accelerometer", 0)
    assert letter.key is None
    assert letter.value is None
    assert letter.headers[:3] == [("a", b""), ("b", b""), ("error-reason", b"null_value")]


def test_the_serializer_writes_null_for_its_mark_and_all_else_as_it_is() -> None:
    serializer = NullableValues()
    assert serializer.serialize("topic", [], NULL) is None
    assert serializer.serialize("topic", [], None) is None
    assert serializer.serialize("topic", [], b"") == b""
    assert serializer.serialize("topic", [], b"\x00") == b"\x00"
