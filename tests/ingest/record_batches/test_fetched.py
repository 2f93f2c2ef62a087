"""Fetched bytes to records, beside kafka-python's own reading: what is right, what is damaged, what is odd."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecordsBuilder

from ingest.record_batches import fetched
from ingest.record_batches.fetched import PIECE, PartitionRecords
from tests.ingest.batches import (
    APPEND_TIME,
    COMMITTED,
    CONTROL,
    ENCODE,
    SOURCE,
    TRANSACTIONAL,
    Aborted,
    Batch,
    Reference,
    marker,
    one_by_one,
    open_records,
    plain,
    read,
    record,
    varint,
)

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

contents = st.one_of(st.none(), st.binary(max_size=5), st.binary(min_size=100, max_size=200))
names = st.one_of(st.sampled_from([b"content-type", "größe".encode(), b"\xff\xfe", b""]), st.binary(max_size=3))
headers = st.lists(st.tuples(names, contents), max_size=3)
paddings = st.sampled_from([0, 0, 0, 0, 1, 3, 8, 9])
times = st.one_of(st.integers(-5000, 5000), st.integers(-(2**62), 2**62))
limits = st.sampled_from([-(2**63), -(2**62), 2**62, 2**63 - 1, -1, 0, 1_700_000_000_000])
attributes = st.builds(
    lambda codec, flags: codec | sum(flags),
    st.integers(0, len(ENCODE) - 1),
    st.lists(st.sampled_from([CONTROL, TRANSACTIONAL, APPEND_TIME]), unique=True),
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    offset, records = -1, []
    for _ in range(draw(st.integers(0, 8))):
        offset += draw(st.sampled_from([1, 1, 1, 2, 70]))
        records.append(
            record(offset, draw(contents), draw(contents), draw(headers), draw(times), padding=draw(paddings))
        )
    return Batch(
        records,
        leader_epoch=draw(st.integers(0, 3)),
        attributes=draw(st.one_of(st.just(0), attributes)),
        last_delta=offset + draw(st.integers(0, 2)) if offset >= 0 else 0,
        first_timestamp=draw(limits),
        max_timestamp=draw(limits),
        producer_id=draw(st.sampled_from([-1, 1, 2])),
    )


@st.composite
def damaged_batches(draw: st.DrawFn) -> Batch:
    """A batch in which bytes of any part were changed, and the checksum with them."""
    batch = draw(batches())
    one = draw(st.one_of(st.integers(40, 60), st.integers(0, 300)))
    damage = draw(st.dictionaries(st.one_of(st.just(one), st.integers(45, 120)), st.integers(1, 255), max_size=3))
    count = draw(st.sampled_from([None, None, -1, 0, 3, 2**31 - 1]))
    return Batch(**{**vars(batch), "damage": damage, "count": count})


@st.composite
def fetches(draw: st.DrawFn, kinds: st.SearchStrategy[Batch]) -> tuple[bytes, int, dict[str, Any]]:
    """The bytes of some batches one after the other, perhaps cut short; where to begin; and what else was told."""
    content, base = b"", draw(st.sampled_from([0, 0, 100, 2**62 - 3]))
    first = base
    for batch in draw(st.lists(kinds, min_size=1, max_size=3)):
        content += Batch(**{**vars(batch), "base_offset": base}).written
        base += (batch.last_delta or 0) + 1
    content = content[: len(content) - draw(st.sampled_from([0, 0, 0, 1, 30]))]
    aborted = [Aborted(1, first), Aborted(2, first + 1)][: draw(st.integers(0, 2))]
    start = first + draw(st.sampled_from([0, 0, 1, 2, 50]))
    return content, start, {"aborted": aborted, "isolation_level": draw(st.integers(0, 1))}


def assert_reads_alike(fetch: tuple[bytes, int, dict[str, Any]], takes: list[int]) -> None:
    content, start, options = fetch
    ours, theirs = (open_records(kind, content, start, **options) for kind in (PartitionRecords, Reference))
    assert read(ours, takes) == read(theirs, takes)


@SETTINGS
@given(fetches(batches()), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_batches_are_read_as_kafka_python_reads_them(
    fetch: tuple[bytes, int, dict[str, Any]], takes: list[int]
) -> None:
    assert_reads_alike(fetch, takes)


@settings(SETTINGS, max_examples=400)
@given(fetches(damaged_batches()), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_damaged_batches_give_the_same_records_and_the_same_refusal(
    fetch: tuple[bytes, int, dict[str, Any]], takes: list[int]
) -> None:
    assert_reads_alike(fetch, takes)


GOOD = record(0, b"good")
SHORT = b"\0\0\2\1\1"  # attributes, timestamp, offset 1, no key, no value


def test_a_batch_that_was_passed_over_is_not_read_again_when_the_next_one_is_refused() -> None:
    good, unreadable = Batch([GOOD]), Batch([GOOD], 1, attributes=1, compress=lambda _: b"no gzip")
    malformed = Batch([varint(-1)], 2)
    content = b"".join(each.written for each in (good, unreadable, malformed))
    ours, theirs = (read(open_records(kind, content), [2]) for kind in (PartitionRecords, Reference))
    assert ours == theirs
    (taken, position, _), *_ = ours[0]
    assert len(taken) == 1
    assert position == 2
    assert ours[1] == "CorruptRecordError"


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(record(1, b"", headers=[(None, b"")]), id="a header without a name"),
        pytest.param(varint(6) + SHORT + varint(-1), id="fewer headers than none"),
        pytest.param(varint(6) + SHORT + varint(1), id="a header that isn't there"),
        pytest.param(varint(7) + SHORT + varint(0), id="longer than it is"),
        pytest.param(varint(5) + SHORT + varint(0), id="shorter than it is"),
        pytest.param(varint(-1) + SHORT + varint(0), id="shorter than nothing"),
        pytest.param(varint(2**62 - 1) + SHORT + varint(0), id="longer than any batch"),
        pytest.param(varint(6) + b"\0\0\2" + varint(1) + b"k" + varint(50), id="a value longer than the record"),
        pytest.param(varint(5) + b"\0\0\2" + varint(2**40) + b"k", id="a key longer than the batch"),
    ],
)
def test_the_records_before_a_malformed_one_are_read_and_then_it_is_refused(malformed: bytes) -> None:
    content = Batch([GOOD, malformed, GOOD, GOOD]).written
    ours, theirs = (read(open_records(kind, content)) for kind in (PartitionRecords, Reference))
    assert ours == theirs
    assert ours[1] == "CorruptRecordError"
    assert [value for _, _, _, value, _ in ours[0][0][0]] == [b"good"]


@pytest.mark.parametrize("codec", range(len(ENCODE)))
def test_a_batch_of_many_pieces_is_read_whole_whatever_its_codec(codec: int) -> None:
    count = 2 * PIECE + 3
    records = [record(n, b"%d" % n, b"key", [(b"n", b"%d" % (n % 3))], timestamp=n) for n in range(count)]
    content = Batch(records, base_offset=5, attributes=codec).written
    taken_in, error = read(open_records(PartitionRecords, content, 5), takes=[700])
    read_back = [each for taken in taken_in[:-2] for each in taken[0]]
    assert error == ""
    assert read_back == [
        (5 + n, 1_700_000_000_000 + n, b"key", b"%d" % n, [("n", b"%d" % (n % 3))]) for n in range(count)
    ]


def test_pieces_hold_no_more_than_what_they_found() -> None:
    """Of records too large for a batch of two, one poll held fifty times what it had fetched."""
    content = b"".join(Batch([record(0, b"x" * 5000)], offset).written for offset in range(50))
    taken = list(open_records(PartitionRecords, content).take(50))
    assert sum(len(piece) for piece in taken) == 50
    assert sum((piece.places if piece.places.base is None else piece.places.base).nbytes for piece in taken) < 10_000


def test_a_batch_is_begun_in_its_middle() -> None:
    part = open_records(PartitionRecords, Batch([record(n, b"%d" % n) for n in range(5)], 10).written, 13)
    assert [each.value for each in one_by_one(part.take(1))] == [b"3"]
    assert part.next_fetch_offset == 14
    assert [each.value for each in one_by_one(part.take(9))] == [b"4"]


def test_the_position_passes_what_compaction_has_removed_from_the_end_of_a_batch() -> None:
    part = open_records(PartitionRecords, Batch([record(1, b"kept")], 10, last_delta=4).written, 10)
    assert [each.offset for each in one_by_one(part.take(9))] == [11]
    assert part.next_fetch_offset == 15


def test_a_committed_reader_skips_aborted_transactions_and_passes_their_markers() -> None:
    batches = [
        Batch([record(0, b"aborted")], 0, attributes=TRANSACTIONAL, producer_id=1),
        Batch([record(0, b"of another")], 1, attributes=TRANSACTIONAL, producer_id=2),
        marker(2, 1, abort=True),
        Batch([record(0, b"the next try")], 3, attributes=TRANSACTIONAL, producer_id=1),
        marker(4, 1, abort=False),
        marker(5, 2, abort=False),
    ]
    content = b"".join(batch.written for batch in batches)
    part = open_records(PartitionRecords, content, aborted=[Aborted(1, 0)], isolation_level=COMMITTED)
    assert [each.value for each in one_by_one(part.take(9))] == [b"of another", b"the next try"]
    assert part.next_fetch_offset == 6


def test_a_marker_that_compaction_has_emptied_is_passed() -> None:
    """Kafka keeps a producer's last batch, and kafka-python then raised at it for ever."""
    emptied = Batch([], 0, attributes=CONTROL | TRANSACTIONAL, producer_id=1, last_delta=0)
    content = emptied.written + Batch([record(0, b"after")], 1).written
    stock = open_records(Fetcher.PartitionRecords, content, isolation_level=COMMITTED)
    with pytest.raises(RuntimeError, match="StopIteration"):  # as long as this raises, we need the mending
        stock.take(9)
    ours = open_records(PartitionRecords, content, isolation_level=COMMITTED)
    assert [each.value for each in one_by_one(ours.take(9))] == [b"after"]


def test_a_refused_partition_is_drained_so_that_it_is_fetched_again() -> None:
    """kafka-python leaves it as it is, and the next poll asks it for records that never come, round and round."""
    good, bad = Batch([record(0, b"good")]).written, bytearray(Batch([record(0, b"bad")], 1).written)
    bad[-1] ^= 1
    part = open_records(PartitionRecords, good + bytes(bad))
    assert [each.value for each in one_by_one(part.take(9))] == [b"good"]
    assert part
    with pytest.raises(Exception, match="failed crc check"):
        part.take(9)
    assert not part
    assert part.next_fetch_offset == 1


def test_what_the_compiled_loop_leaves_alone_is_read_between_what_it_takes() -> None:
    sizes = [0, 9, 0, 9, 9, 0, 0, 0]  # a varint of ten bytes is more than it is sure of
    content = Batch([record(n, b"%d" % n, padding=size) for n, size in enumerate(sizes)]).written
    taken_in, error = read(open_records(PartitionRecords, content))
    assert error == ""
    assert [(each[0], each[3]) for each in taken_in[0][0]] == [(n, b"%d" % n) for n in range(8)]


def test_a_header_name_that_is_not_utf8_is_escaped_whichever_way_the_record_is_read() -> None:
    odd = [(b"\xff", b"1"), ("größe".encode(), None)]
    content = Batch([record(n, b"", headers=odd, padding=padding) for n, padding in enumerate([0, 0, 9])]).written
    records = plain(open_records(PartitionRecords, content).take(9))
    assert [headers for *_, headers in records] == [[("\\xff", b"1"), ("größe", None)]] * 3


@pytest.mark.parametrize(("magic", "timestamp"), [(0, -1), (1, 1234)])
@pytest.mark.parametrize("codec", [0, 1])
def test_messages_of_the_old_formats_are_read(magic: int, timestamp: int, codec: int) -> None:
    builder = MemoryRecordsBuilder(magic, codec, 10_000)
    for value in (b"a", None):
        builder.append(1234, b"key", value)
    builder.close()
    taken_in, error = read(open_records(PartitionRecords, bytes(builder.buffer())))
    assert error == ""
    assert taken_in[0][0] == [(0, timestamp, b"key", b"a", []), (1, timestamp, b"key", None, [])]


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
@pytest.mark.parametrize("deltas", [(1, 0), (-3, 1), (0, 2**31 - 2), (0, 0), (2**61, -(2**61))])
def test_offsets_that_a_client_made_up_are_put_right(deltas: tuple[int, int], codec: int) -> None:
    """No broker checks them in what isn't compressed: rows that went back ended the worker, at each start again."""
    content = Batch([record(delta, b"") for delta in deltas], 5, attributes=codec).written
    content += Batch([record(0, b"next")], 7).written
    taken_in, error = read(open_records(PartitionRecords, content, 5), takes=[1])
    assert error == ""
    assert [(taken[0][0], position) for taken, position, _ in taken_in[:-2] if taken] == [(5, 6), (6, 7), (7, 8)]


def test_after_compaction_offsets_are_the_records_own_as_far_as_they_rise_within_the_batch() -> None:
    deltas, kept = [1, 0, 4, 3, 99, -2], [11, 11, 14, 14, 18, 18]
    for attributes in (0, 1):
        content = Batch([record(delta, b"") for delta in deltas], 10, last_delta=8, attributes=attributes).written
        part = open_records(PartitionRecords, content, 10)
        assert [each.offset for each in one_by_one(part.take(9))] == kept
        assert part.next_fetch_offset == 19


def test_attributes_are_a_byte_whatever_its_bits() -> None:
    """As a varint, which kafka-python reads, the byte was two, and the record a wrong one or none at all."""
    odd = bytearray(record(0, b"value", b"k"))
    odd[1] = 0x80
    for attributes in (0, 1):
        part = open_records(PartitionRecords, Batch([bytes(odd)], attributes=attributes).written)
        assert [(each.offset, each.key, each.value) for each in one_by_one(part.take(9))] == [(0, b"k", b"value")]


def test_what_follows_the_end_of_gzip_is_left_alone() -> None:
    """Kafka takes it, and `gzip` refused it at each poll."""
    content = Batch([record(0, b"value")], attributes=1, trailer=b"garbage!").written
    assert [each.value for each in one_by_one(open_records(PartitionRecords, content).take(9))] == [b"value"]


def test_a_batch_that_cannot_be_decompressed_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    skipped = []
    bad = Batch([record(0, b"a"), record(1, b"b")], 10, attributes=1, damage={60: 1, 61: 1, 62: 1}).written
    content = Batch([record(0, b"before")], 9).written + bad + Batch([record(0, b"after")], 12).written
    part = open_records(PartitionRecords, content, 9, tell=lambda *what: skipped.append(what))
    assert [(each.offset, each.value) for each in one_by_one(part.take(9))] == [(9, b"before"), (12, b"after")]
    assert skipped == [(SOURCE, 2)]
    assert "topic[0]: the records from 10 to 11 are passed over: gzip refuses it" in caplog.text


def test_the_position_passes_a_batch_that_cannot_be_decompressed_at_the_end() -> None:
    bad = Batch([record(0, b"a")], 10, attributes=1, damage={60: 1, 61: 1, 62: 1}).written
    part = open_records(PartitionRecords, bad, 10)
    assert one_by_one(part.take(9)) == []
    assert part.next_fetch_offset == 11


def test_one_take_gives_no_more_bytes_than_a_worker_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four thousand records were taken, however large: of compressed chunks that was gigabytes."""
    monkeypatch.setattr(fetched, "TAKE_BYTES", 1000)
    for attributes in (0, 1):
        records = [record(n, b"x" * size) for n, size in enumerate([10, 400, 400, 400, 5000, 10])]
        part = open_records(PartitionRecords, Batch(records, attributes=attributes).written)
        taken = []
        while part and (some := part.take(100)):
            assert len(some) in (100, sum(map(len, some)))  # kafka-python is told that a full one has all it asked for
            taken.append([each.offset for each in one_by_one(some)])
        assert taken == [[0, 1, 2], [3], [4], [5]]


def test_a_take_of_many_bytes_counts_as_its_share_so_that_a_poll_of_many_partitions_ends_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred partitions gave almost 32 MB each, of compressed chunks, in one poll."""
    monkeypatch.setattr(fetched, "TAKE_BYTES", 100_000)
    part = open_records(PartitionRecords, Batch([record(n, b"x" * 24_990) for n in range(3)], attributes=1).written)
    some = part.take(1000)
    assert len(one_by_one(some)) == 3
    assert 740 < len(some) < 760
    assert len(open_records(PartitionRecords, Batch([record(0, b"x" * 90_000)]).written).take()) == 1


@pytest.mark.parametrize("first_timestamp", [0, -(2**63)])  # the latter is read one by one
@pytest.mark.parametrize("attributes", [0, 1])
def test_of_a_record_with_very_many_headers_few_are_read_and_the_next_record_is_found(
    first_timestamp: int, attributes: int
) -> None:
    """Sixty million headers of two bytes each, which are kilobytes when compressed, became as many objects."""
    many = [(b"%d" % n, b"") for n in range(5000)]
    records = [record(0, b"a", headers=many), record(1, b"b", headers=many[:105]), record(2, b"c")]
    content = Batch(records, attributes=attributes, first_timestamp=first_timestamp).written
    found = one_by_one(open_records(PartitionRecords, content).take(10))
    assert [(each.offset, each.value, len(each.headers)) for each in found] == [
        (0, b"a", 105),
        (1, b"b", 105),
        (2, b"c", 0),
    ]
    assert list(found[0].headers) == [(f"{n}", b"") for n in range(105)]


def test_a_record_that_says_it_has_more_headers_than_bytes_is_refused() -> None:
    """Of a record that is read one by one no more headers are read than count; what follows them is passed."""
    short = bytearray(record(0, b"a", headers=[(b"x", b"")] * 200))
    whole = Batch([bytes(short[:-400])], attributes=1, first_timestamp=-(2**63), count=1).written
    with pytest.raises(CorruptRecordError):
        open_records(PartitionRecords, whole).take(10)
