"""The error of each record of a batch that Kafka refused."""

from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
)

from ingest.producer.producer import UnharmedError, error_of_each, record_bytes, was_refused


def test_each_of_several_records_with_such_timestamps_is_told_of_its_timestamp() -> None:
    """kafka-python tells them that they are invalid, for which they were given up."""
    error_of = error_of_each(InvalidTimestampError("some"), [(0, "too old"), (2, "older")], "some")
    assert [type(error_of(record)) for record in range(3)] == [
        InvalidTimestampError,
        UnharmedError,
        InvalidTimestampError,
    ]
    assert "older" in str(error_of(2))


def test_what_was_refused_itself_is_told_apart_from_what_was_not_sent_for_it() -> None:
    error = MessageSizeTooLargeError(None)
    assert was_refused(error_of_each(error, [], None)(0))
    assert was_refused(error_of_each(InvalidRecordError(None), [(0, "no key")], None)(0))
    assert not was_refused(error)


def test_an_error_that_is_not_of_the_records_is_told_to_all_of_them() -> None:
    error = NotEnoughReplicasError("it has waited too long")
    assert error_of_each(error, None, None)(3) is error


def test_batches_that_expire_do_so_in_the_same_words() -> None:
    expired = KafkaTimeoutError("Expiring 2 record(s) for texts-0: 60024 ms has passed since batch creation")
    assert str(error_of_each(expired, None, None)(1)) == "KafkaTimeoutError: no broker took it in time"


def test_a_record_is_as_large_as_its_key_value_and_headers_and_what_tells_their_lengths() -> None:
    assert record_bytes(None, b"x" * 100, []) == 1 + 2 + 100 + 1
    assert record_bytes(b"key", b"x", [("a", b"bc")]) == 4 + 2 + 1 + 2 + 3
