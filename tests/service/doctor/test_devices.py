"""What is reported about readings: for each mistake that people make with their first devices, and for none."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.structs import TopicPartition

from ingest.consumer.latest import Latest
from ingest.contract import BINARY_CHUNK_CONTENT_TYPE
from ingest.record_batches.record_columns import FetchedRecord, Records
from ingest.rejections import Reason
from service.activity_worker import decoder, windower
from service.configuration.settings import ActivitySettings
from service.doctor.devices import examine_devices
from service.doctor.findings import Finding, Verdict
from service.doctor.records import examine_records
from service.replay.messages import binary_chunk

NOW_MS = 1_700_000_000_000
SETTINGS = ActivitySettings()


@dataclass(frozen=True)
class Phone:
    """A device at rest that begins to send at `first_ms`, as often as `every_ms`, so many readings in all."""

    name: str = "phone"
    first_ms: int = NOW_MS
    every_ms: int = 50
    readings: int = 400
    length: float = 9.8
    jolt: float = 0.0  # of every fifth reading
    unit_ms: int = 1
    clock_ms: int = 0

    def records(self) -> Iterator[FetchedRecord]:
        for number in range(self.readings):
            at = self.first_ms + number * self.every_ms
            length = self.jolt if self.jolt and number % 5 == 0 else self.length
            value = sample(self.name, (at + self.clock_ms) // self.unit_ms, 0.0, length, 0.0)
            yield FetchedRecord(value, self.name.encode(), (), at, 0)


def sample(name: str, timestamp: int, x: float, y: float, z: float) -> bytes:
    return json.dumps({"device_id": name, "timestamp": timestamp, "x": x, "y": y, "z": z}).encode()


def chunk(name: str, start: int, rows: list[list[float]]) -> bytes:
    return json.dumps({"device_id": name, "start": start, "rate_hz": 20, "samples": rows}).encode()


def partition(*phones: Phone, first_offset: int = 0) -> Records:
    """Put what phones send into one partition, in the order of time."""
    records = sorted((record for phone in phones for record in phone.records()), key=lambda record: record.timestamp)
    return numbered(records, first_offset)


def numbered(records: Sequence[FetchedRecord], first_offset: int = 0) -> Records:
    return Records.of(
        FetchedRecord(each.value, each.key, each.headers, each.timestamp, first_offset + number)
        for number, each in enumerate(records)
    )


def examined(*partitions: Records, settings: ActivitySettings = SETTINGS) -> list[Finding]:
    decoded = {}
    for number, records in enumerate(partitions):
        readings, rejections = decoder(settings)(records)
        assert not rejections
        decoded[TopicPartition("readings", number)] = records, readings
    return list(examine_devices(decoded, settings, lambda: windower(settings)))


def the(findings: Sequence[Finding], about: str) -> Finding:
    (found,) = [finding for finding in findings if about in finding.text]
    return found


def bad(findings: Sequence[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.verdict is not Verdict.OK]


def test_nothing_is_wrong_with_phones_as_they_should_be() -> None:
    findings = examined(partition(Phone("a"), Phone("b", first_ms=NOW_MS + 1234)), partition(Phone("c")))
    assert [finding.text for finding in findings] == [
        "3 devices, with 20.0 readings a second in the median",
        "24 of 24 windows get a label",
    ]
    assert bad(findings) == []


@given(
    first_ms=st.integers(NOW_MS, NOW_MS + 10_000),
    name=st.text("abc", min_size=1, max_size=8),
    lateness=st.integers(0, 40),
    gap=st.sampled_from([50, 100, 250, 1000, 4000]),
    stretches=st.lists(st.tuples(st.integers(1, 150), st.integers(0, 90)), min_size=1, max_size=4),
)
def test_windows_are_those_that_a_plain_count_finds(
    first_ms: int, name: str, lateness: int, gap: int, stretches: list[tuple[int, int]]
) -> None:
    """One that began before what was looked at is not held against its device."""
    settings = ActivitySettings(lateness_slots=lateness, max_gap_ms=gap)
    phones, at = [], first_ms
    for readings, pause in stretches:
        phones.append(Phone(name, at, readings=readings))
        at += 50 * (readings + pause)
    labelled, incomplete = plain_count(name, partition(*phones), lateness, gap)
    (found,) = [each for each in examined(partition(*phones), settings=settings) if "window" in each.text]
    if not labelled + incomplete:
        assert found.text.startswith("no window of 4 s closes")
    else:
        counts = re.search(r"(\d+) of (\d+) window", found.text)
        assert counts is not None
        assert (int(counts[1]), int(counts[2])) == (labelled, labelled + incomplete)


def plain_count(name: str, records: Records, lateness: int, gap: int) -> tuple[int, int]:
    """Count windows that close, whole and not, but for those that would be whole if there were readings before."""
    slots = {(json.loads(record.value or b"")["timestamp"] + 25) // 50 for record in records}
    first, last = min(slots), max(slots)
    labelled = incomplete = 0
    for start in range(first - 79, last - lateness - 80 + 1):
        there = "".join("x" if slot in slots else "." for slot in range(start, start + 80))
        if start % 40 != zlib.crc32(name.encode()) % 40 or "x" not in there:
            continue
        if not any(_spoils(hole, gap) for hole in re.findall(r"\.+", there)):
            labelled += 1
        elif start >= first or not _spoils(there[: there.index("x")], gap):
            incomplete += 1
    return labelled, incomplete


def _spoils(hole: str, gap: int) -> bool:
    return bool(hole) and 50 * (len(hole) + 1) > gap


def test_an_idle_timeout_that_leaves_windows_no_time_is_wrong() -> None:
    """All windows would get a label, it said, of a worker that takes whoever sends live for silent and labels none."""
    settings = SETTINGS.model_copy(update={"idle_timeout_s": 3})
    found = the(examined(partition(Phone("phone")), settings=settings), "activity.idle_timeout_s is 3")
    assert found.verdict is Verdict.WRONG


def test_windows_that_lack_readings_are_counted_whoever_else_has_only_begun() -> None:
    """Of 860 slots 60 are empty; three of the windows, which start every 40, share five or more with them."""
    newcomers = [Phone(f"new-{number}", readings=10) for number in range(5)]
    findings = examined(partition(Phone(), Phone(first_ms=NOW_MS + 400 * 50 + 3000), *newcomers))
    assert the(findings, "get a label").text.startswith("only 16 of 19 windows get a label; the others have a hole")
    assert the(findings, "get a label").verdict is Verdict.NOTE


def test_of_more_windows_than_fit_into_a_step_all_are_counted() -> None:
    phones = [Phone(f"phone-{number}", readings=1) for number in range(700)]
    rows = np.full((400, 3), [0, 9.8, 0]).tolist()
    chunks = [FetchedRecord(chunk(phone.name, NOW_MS, rows), None, (), NOW_MS + 20_000, 0) for phone in phones]
    assert re.search(r"5,\d+ of (5,\d+) windows get a label", the(examined(numbered(chunks)), "windows").text)


@pytest.mark.parametrize(("holes", "verdict"), [(1, Verdict.OK), (4, Verdict.NOTE)])
def test_a_tenth_of_the_windows_may_lack_readings(holes: int, verdict: Verdict) -> None:
    """Each hole of half a second spoils two or three windows of about 58."""
    phones = [Phone(first_ms=NOW_MS + at, readings=200) for at in range(0, holes * 10_500, 10_500)]
    rest = Phone(first_ms=NOW_MS + holes * 10_500, readings=2400 - 200 * holes)
    found = the(examined(partition(*phones, rest)), "windows")
    assert "get a label" in found.text
    assert found.verdict is verdict


def test_who_gets_no_label_is_named_however_many_others_do() -> None:
    others = [Phone(f"p{number}") for number in range(20)]
    findings = examined(partition(*others, Phone("slow", every_ms=1000, readings=20)))
    assert the(findings, "get a label").verdict is Verdict.OK
    found = the(findings, "without a single label")
    assert found.text == "1 device without a single label: slow (1.0 readings a second)"
    assert found.verdict is Verdict.NOTE


def test_of_few_readings_their_number_is_reported_and_no_rate() -> None:
    """It said "0.0 readings a second" of who had tried it out with one message now and then."""
    findings = examined(partition(Phone("p", every_ms=60_000, readings=3)))
    assert findings[0].text == "1 device, with 3 readings in all"
    assert the(findings, "without a single label").text == "1 device without a single label: p (3 readings)"


def test_who_has_just_begun_is_not_named() -> None:
    assert "without a single label" not in str(
        examined(partition(Phone("a"), Phone("b", readings=100, first_ms=NOW_MS + 9_000)))
    )


def test_the_rate_is_what_most_pauses_say() -> None:
    """Neither a night's pause nor what was sent twice makes it another."""
    nights = [*Phone(readings=100).records(), *Phone(first_ms=NOW_MS + 36_000_000, readings=100).records()]
    findings = examined(numbered([record for record in nights for _ in range(2)]))
    assert findings[0].text == "1 device, with 20.0 readings a second in the median"


@pytest.mark.parametrize("phones", [[Phone("a", readings=1), Phone("b", readings=1)]])
def test_of_one_reading_each_nothing_can_be_reported(phones: list[Phone]) -> None:
    assert bad(examined(partition(*phones))) == [
        "2 devices, none of them with readings of two moments by a clock that makes sense",
        "no window of 4 s closes within these records: look at more of them, with --records",
    ]


# --- partitions --------------------------------------------------------------------------------------------------


def test_a_device_on_several_partitions_is_named_with_all_of_them() -> None:
    torn = partition(Phone("torn"))
    findings = examined(partition(Phone("torn"), Phone("whole")), torn, torn)
    found = the(findings, "several partitions")
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith(
        "1 device on several partitions, each of which is windowed alone: torn on 0 and 1 and 2. "
    )


def test_the_first_three_of_many_are_named() -> None:
    phones = [Phone(f"p{number}", readings=2) for number in range(5)]
    found = the(examined(partition(*phones), partition(*phones)), "several partitions")
    assert "p0 on 0 and 1, p1 on 0 and 1, p2 on 0 and 1 and 2 more." in found.text


def test_a_device_that_moved_as_partitions_were_added_is_none_of_those() -> None:
    findings = examined(partition(Phone("moved")), partition(Phone("moved", first_ms=NOW_MS + 60_000)))
    assert bad(findings) == ["1 device moved to another partition: moved on 0 and 1. Were some added?"]
    assert the(findings, "moved").verdict is Verdict.NOTE


def test_a_stray_stamp_makes_no_split_of_a_move() -> None:
    before = list(Phone("moved").records())
    stray = FetchedRecord(before[-1].value, b"moved", (), NOW_MS + 70_000, 0)
    findings = examined(numbered([*before, stray]), partition(Phone("moved", first_ms=NOW_MS + 60_000)))
    assert the(findings, "moved to another").verdict is Verdict.NOTE


# --- clocks ------------------------------------------------------------------------------------------------------


def test_timestamps_in_seconds_are_seen() -> None:
    found = the(examined(partition(Phone("a", unit_ms=1000), Phone("b"))), "in seconds")
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith("1 device with timestamps in seconds: a. ")


def test_time_since_the_start_is_seen_for_what_it_is() -> None:
    found = the(examined(partition(Phone("a", clock_ms=5_000_000 - NOW_MS), Phone("b"))), "before the year 2000")
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith("1 device with timestamps of before the year 2000: a. ")


@pytest.mark.parametrize("off_ms", [-3_600_000, -61_000, 61_000, 3_500_000])
def test_a_clock_that_is_off_is_noted(off_ms: int) -> None:
    found = the(examined(partition(Phone("a", clock_ms=off_ms), Phone("b", clock_ms=59_000))), "off by more than 60 s")
    assert found.verdict is Verdict.NOTE
    assert ": a. " in found.text


def test_one_good_reading_is_enough_for_a_clock() -> None:
    """What a phone kept while it was offline is old when it comes, and the newest of it isn't."""
    kept = np.full((2400, 3), [0, 9.8, 0]).tolist()
    late = FetchedRecord(chunk("phone", NOW_MS, kept), None, (), NOW_MS + 120_000, 0)
    old = FetchedRecord(chunk("older", NOW_MS - 600_000, kept), None, (), NOW_MS + 120_000, 0)
    found = the(examined(numbered([late, old])), "off by more than 60 s")
    assert ": older. " in found.text


@pytest.mark.parametrize("moves", [0.0, 0.01])
@pytest.mark.parametrize("whole", [1000, 10**9])
def test_a_clock_of_whole_seconds_or_one_that_stands_still_is_seen(whole: int, moves: float) -> None:
    records = [
        FetchedRecord(
            sample("phone", at // whole * whole + (7 if whole > 1000 else 0), 0, 9.8 + at % 7 * moves, 0),
            b"phone",
            (),
            at,
            0,
        )
        for at in range(NOW_MS, NOW_MS + 20_000, 50)
    ]
    findings = examined(numbered(records))
    assert the(findings, "one timestamp").verdict is Verdict.WRONG
    assert "phone. Does the clock stand still, or tell whole seconds?" in the(findings, "one timestamp").text
    assert not any(misleads in str(findings) for misleads in ("--records", "readings a second", "single label"))


def test_of_a_clock_in_seconds_nothing_else_is_made() -> None:
    findings = examined(partition(Phone(unit_ms=1000)))
    assert not any(misleads in str(findings) for misleads in ("--records", "readings a second", "single label"))


def test_what_is_sent_again_is_no_such_clock() -> None:
    thrice = [record for record in Phone().records() for _ in range(3)]
    assert bad(examined(numbered(thrice))) == []


def test_each_reading_of_a_chunk_is_held_against_its_own_records_time() -> None:
    rows = np.full((100, 3), [0, 9.8, 0]).tolist()
    chunks = [
        FetchedRecord(chunk(name, at, rows), None, (), at + 5000, 0)
        for name, at in (("a", NOW_MS), ("b", NOW_MS + 7_200_000), ("c", NOW_MS + 14_400_000))
    ]
    assert "off by more" not in str(examined(numbered(chunks)))


# --- units -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "unit", "verdict", "says"),
    [
        (1.0, "m/s2", Verdict.WRONG, "with readings in g: odd. "),
        (0.8, "m/s2", Verdict.WRONG, "with readings in g: odd. "),
        (1.45, "m/s2", Verdict.WRONG, "with readings in g: odd. "),
        (9.8, "g", Verdict.WRONG, "in m/s² already, where activity.unit is g: odd"),
        (0.2, "m/s2", Verdict.NOTE, "with readings of 0.20 m/s² and the like, where gravity alone is 9.81: odd. "),
        (1.6, "m/s2", Verdict.NOTE, "with readings of 1.60 m/s²"),
        (6.4, "m/s2", Verdict.NOTE, "with readings of 6.40 m/s²"),
        (25.1, "m/s2", Verdict.NOTE, "with readings of 25.10 m/s²"),
    ],
)
def test_a_device_of_another_unit_or_without_gravity_is_named_among_many(
    length: float, unit: str, verdict: Verdict, says: str
) -> None:
    settings = ActivitySettings.model_validate({"unit": unit})
    usual = 9.8 if unit == "m/s2" else 1.0
    others = [Phone(f"p{number}", length=usual) for number in range(9)]
    findings = examined(partition(*others, Phone("odd", length=length)), settings=settings)
    assert bad(findings) == [the(findings, says).text]
    assert the(findings, says).verdict is verdict


@pytest.mark.parametrize("length", [6.6, 9.8, 12.4, 23.0])
def test_who_walks_or_runs_measures_more_and_less_than_gravity(length: float) -> None:
    assert bad(examined(partition(Phone(length=length)))) == []


@pytest.mark.parametrize("jolt", [0.1, 60.0])
def test_some_hard_steps_make_no_other_unit(jolt: float) -> None:
    assert bad(examined(partition(Phone(jolt=jolt)))) == []


# --- readings that are late --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held_back", "text"), [(3, None), (20, "20 readings (2.5%) come too late and are dropped")])
def test_readings_that_come_too_late_are_noted_from_a_hundredth_on(held_back: int, text: str | None) -> None:
    """Those of another device that come in any order, but within a second, are in time."""
    in_order = list(Phone("slow").records())
    some, rest = in_order[100 : 100 + held_back], in_order[100 + held_back : 300]
    jumbled = list(Phone("jumbled").records())
    others = [record for at in range(0, 400, 20) for record in reversed(jumbled[at : at + 20])]
    findings = examined(numbered([*others, *in_order[:100], *rest, *some, *in_order[300:]]))
    if text is None:
        assert "too late" not in str(findings)
    else:
        assert the(findings, "too late").text.startswith(text)
        assert the(findings, "too late").text.endswith("Most are of slow")


@pytest.mark.parametrize(("held_back", "verdict"), [(35, Verdict.NOTE), (40, Verdict.WRONG), (300, Verdict.WRONG)])
def test_from_a_tenth_on_late_readings_are_wrong(held_back: int, verdict: Verdict) -> None:
    """70 % of the readings were dropped, and that was a note among others."""
    readings = list(Phone().records())
    found = the(examined(numbered([*readings[held_back:], *readings[:held_back]])), "too late")
    assert found.verdict is verdict
    assert found.text.endswith("as by a second replay?") == (verdict is Verdict.WRONG)


@pytest.mark.parametrize(("wait_s", "late"), [(1, True), (61, False)])
def test_a_second_replay_of_the_past_is_late_unless_its_devices_were_silent_for_a_minute(
    wait_s: int, late: bool
) -> None:
    """As `stridecast replay` says at its end."""
    end_ms = NOW_MS + 20_000
    times = [(at, replay_ms) for replay_ms in (0, 1000 * wait_s) for at in range(NOW_MS, end_ms, 50)]
    records = [
        FetchedRecord(sample("phone", at + replay_ms, 0, 9.8, 0), b"phone", (), end_ms + replay_ms, 0)
        for at, replay_ms in times
    ]
    assert ("too late" in str(examined(numbered(records)))) == late


@pytest.mark.parametrize("stamp", [NOW_MS, 2**62])
def test_a_wild_reading_costs_its_device_no_more_than_it_costs_with_a_worker(stamp: int) -> None:
    """Of one 50 minutes ahead all that follows is late, until the device falls silent for it, after a minute.

    A record with a stamp that is far from all others does not stop the clock that says so.
    """
    phone = list(Phone(readings=12_000).records())
    wild = FetchedRecord(sample("phone", NOW_MS + 3_000_000, 0, 9.8, 0), b"phone", (), NOW_MS + 10_000, 0)
    other = FetchedRecord(sample("other", NOW_MS, 0, 9.8, 0), b"other", (), stamp, 0)
    found = the(examined(numbered([other, *phone[:200], wild, *phone[200:]])), "get a label")
    counts = re.search(r"(\d+) of (\d+) windows", found.text)
    assert counts is not None
    assert 265 <= int(counts[1]) <= 275
    assert found.verdict is Verdict.OK


def test_nor_does_it_where_records_are_few() -> None:
    rows = np.full((200, 3), [0, 9.8, 0]).tolist()
    chunks = [
        FetchedRecord(chunk("a", at, rows), None, (), at + 10_000, 0) for at in range(NOW_MS, NOW_MS + 400_000, 10_000)
    ]
    wild = FetchedRecord(sample("a", NOW_MS + 3_000_000, 0, 9.8, 0), None, (), NOW_MS + 20_000, 0)
    odd = FetchedRecord(sample("odd", NOW_MS, 0, 9.8, 0), None, (), 2**62, 0)
    found = the(examined(numbered([odd, *chunks[:2], wild, *chunks[2:]])), "get a label")
    assert int(found.text.removeprefix("only ").split()[0]) > 100


# --- what is shown -----------------------------------------------------------------------------------------------


def test_an_id_cant_change_what_the_terminal_shows() -> None:
    phone = Phone("\x1b[31mred\n")
    found = the(examined(partition(phone), partition(phone)), "several partitions")
    assert all(character.isprintable() for character in found.text)


def test_the_readings_of_chunks_are_each_their_devices() -> None:
    """A chunk has many readings of one device; the next record's may be another's."""
    rows = np.full((100, 3), [0, 9.8, 0]).tolist()
    chunks = [
        FetchedRecord(chunk(name, at, rows), None, (), at, 0)
        for at in range(NOW_MS, NOW_MS + 20_000, 5000)
        for name in ("a", "b")
    ]
    assert [finding.text for finding in examined(numbered(chunks))] == [
        "2 devices, with 20.0 readings a second in the median",
        "16 of 16 windows get a label",
    ]


# --- records -----------------------------------------------------------------------------------------------------


def looked_at(records: Records, **missing: Any) -> list[Finding]:
    found: dict[str, Any] = {"unanswered": [], "barren": [], "undecodable": 0, "whole": True, **missing}
    latest = Latest({TopicPartition("readings", 3): records} if len(records) else {}, **found)
    refused = {source: decoder(SETTINGS)(some)[1] for source, some in latest.records.items()}
    return list(examine_records("readings", latest, refused))


def test_refused_records_are_counted_by_reason_and_the_first_of_each_is_shown() -> None:
    good = list(Phone(readings=97).records())
    nonsense = [FetchedRecord(value, None, (), NOW_MS, 0) for value in (b"nonsense", b"{}", b"more")]
    total, often, once = looked_at(numbered([*good, *nonsense], first_offset=50))
    assert total.text.endswith("3 (3.00%) can't be read, and go to the dead letters")
    assert often.text.startswith(f"2 not_json ({Reason.NOT_JSON.meaning}); the first is readings[3] at 147: ")
    assert once.text.startswith("1 missing_field (")
    assert {finding.verdict for finding in (total, often, once)} == {Verdict.WRONG}


def test_refused_records_are_grouped_by_the_field_that_is_wrong_the_commonest_first() -> None:
    """Of 242 of the wrong type 240 were timestamps, and the one that was shown had an x that was a text."""
    odd = FetchedRecord(b'{"device_id": "p", "timestamp": 1, "x": "0", "y": 0, "z": 0}', None, (), NOW_MS, 0)
    chunks = [chunk("p", NOW_MS, [[0.0, 0.0, 0.0]] * n + [[0.0, 0.0, 7.5]]).replace(b"7.5", b'"7"') for n in (1, 2)]
    rows = [FetchedRecord(value, None, (), NOW_MS, 0) for value in chunks]
    times = [timed(NOW_MS / 1000 + 0.25) for _ in range(5)]
    _, *groups = looked_at(numbered([odd, *rows, *times]))
    assert [finding.text.partition(" (")[0] for finding in groups] == ["5 wrong_type", "2 wrong_type", "1 wrong_type"]
    assert "the first is readings[3] at 3: Sample.timestamp: neither a whole number" in groups[0].text
    assert "the first is readings[3] at 1: Chunk.samples[1][2]: not a number" in groups[1].text
    assert "the first is readings[3] at 0: Sample.x: not a number" in groups[2].text


def timed(timestamp: object, **others: object) -> FetchedRecord:
    fields = {"device_id": "p", "timestamp": timestamp, "x": 0, "y": 9.8, "z": 0, **others}
    return FetchedRecord(json.dumps(fields).encode(), b"p", (), NOW_MS, 0)


@pytest.mark.parametrize(
    ("sent", "looks"),
    [
        (1_700_000_001.25, "seconds with decimals"),
        ("1700000001.25", "seconds with decimals in a string"),
        ("1700000001", "seconds in a string"),
        (1_700_000_001_250.5, "milliseconds with decimals"),
        ("1700000001250", "milliseconds in a string"),
        (1_700_000_001_250_000, "microseconds"),
        (1_700_000_001_250_000_000, "nanoseconds"),
    ],
)
@pytest.mark.parametrize("form", ["sample", "chunk"])
def test_timestamps_in_another_unit_are_recognised_by_kafkas_and_what_to_send_is_reported(
    sent: float | str, looks: str, form: str
) -> None:
    """`time.time()` as it is, the commonest mistake of all, was "a field has another JSON type", and no more."""
    record = timed(sent)
    if form == "chunk":
        fields = {"device_id": "p", "start": sent, "rate_hz": 20, "samples": [[0, 9.8, 0]]}
        record = FetchedRecord(json.dumps(fields).encode(), b"p", (), NOW_MS, 0)
    _, found = looked_at(numbered([record, record]))
    meant = 1_700_000_001_000 if looks == "seconds in a string" else 1_700_000_001_250
    advice = f". The timestamps look like {looks}: send milliseconds since 1970 as an integer, such as {meant} where "
    assert found.text.endswith(f"{advice}{json.dumps(sent)} was sent")


def test_so_are_those_of_binary_chunks() -> None:
    value = binary_chunk("p", np.array([10**6 * NOW_MS]), np.zeros((1, 3), np.float32), 50.0)
    headers = (("content-type", BINARY_CHUNK_CONTENT_TYPE.encode()),)
    _, found = looked_at(numbered([FetchedRecord(value, b"p", headers, NOW_MS, 0)]))
    assert f"The timestamps look like nanoseconds: send milliseconds since 1970 as an integer, such as {NOW_MS}" in str(
        found
    )


@pytest.mark.parametrize(
    "sent",
    [10**12 * NOW_MS, 1e300, NOW_MS + 4_000_000, 1.5, None, True, "yesterday", {}, 10**39, "1" * 30],
)
def test_of_timestamps_that_are_like_nothing_nothing_is_guessed(sent: object) -> None:
    assert "look like" not in str(looked_at(numbered([timed(sent)])))


def test_nor_where_another_field_is_wrong_or_most_timestamps_are_otherwise() -> None:
    seconds = NOW_MS / 1000 + 0.5
    assert "look like" not in str(looked_at(numbered([timed(NOW_MS, x="0")])))
    assert "look like" not in str(looked_at(numbered([timed(seconds), timed(None), timed(None)])))
    assert "look like" not in str(looked_at(numbered([FetchedRecord(b"[" * 300, None, (), NOW_MS, 0)])))


def test_records_that_can_all_be_read_are_reported_to_be() -> None:
    (found,) = looked_at(partition(Phone(readings=41)))
    assert found.text == "the latest 41 records (partition 3), which arrived within 2.0 s: all can be read"
    (found,) = looked_at(partition(Phone(readings=1)))
    assert found.text == "the latest record (partition 3): all can be read"


def test_the_span_of_records_is_that_of_all_partitions_together() -> None:
    """Of three partitions with a record or a burst each it was their median, 0.0 s, where they came within a minute."""
    of = {
        TopicPartition("readings", number): partition(Phone(first_ms=NOW_MS + 32_500 * place, readings=1))
        for place, number in enumerate((1, 2, 6))
    }
    (found,) = examine_records("readings", Latest(of, [], [], 0, True), {})
    assert found.text == "the latest 3 records (partitions 1, 2 and 6), which arrived within 65 s: all can be read"


def test_of_an_empty_topic_there_is_nothing_to_say() -> None:
    (found,) = looked_at(numbered([]))
    assert (found.verdict, found.text) == (Verdict.NOTE, "readings holds no records: nothing to look at")


def test_what_did_not_come_is_not_passed_over() -> None:
    of = [TopicPartition("readings", number) for number in range(5)]
    some = partition(Phone(readings=2))
    silent, broken, barren, good = looked_at(some, unanswered=of[:4], barren=of[4:], undecodable=7)
    assert silent.text.startswith("not all came of partitions 0, 1, 2 and 1 more of readings: ")
    assert broken.text.startswith("7 records can't be decompressed")
    assert barren.text.startswith("the last offsets of partition 4 hold nothing that is committed")
    assert good.text.endswith(": all can be read")
    assert [found.verdict for found in (silent, broken, barren)] == [Verdict.WRONG, Verdict.WRONG, Verdict.NOTE]
    assert [found.verdict for found in looked_at(numbered([]), unanswered=of)] == [Verdict.WRONG]


@pytest.mark.parametrize("stamp", [-(2**60), 2**62, 2**63 - 1, 0])
@pytest.mark.parametrize("count", [20, 40, 1000])
def test_one_stamp_that_is_far_off_does_not_make_years_of_a_minute(count: int, stamp: int) -> None:
    odd = FetchedRecord(sample("a", NOW_MS, 0, 9.8, 0), None, (), stamp, 0)
    records = [*Phone(readings=count, every_ms=1000).records(), odd]
    spans = {20: "19 s", 40: "39 s", 1000: "17 minutes"}
    assert f"which arrived within {spans[count]}: " in looked_at(numbered(records))[0].text


def test_a_sender_that_may_be_mended_by_now_is_told_from_one_that_is_not() -> None:
    """A new user mended a producer, and the doctor went on calling its old records wrong until 100,000 had come."""
    nonsense = FetchedRecord(b"nonsense", None, (), NOW_MS, 0)
    told = "go to the dead letters; 1,000 that can be read have come since the last of them"
    for after, ends_with in ((1000, told), (999, "go to the dead letters")):
        good = list(Phone(readings=after + 1).records())  # the first has the stamp of the nonsense
        assert looked_at(numbered([nonsense, *good]))[0].text.endswith(ends_with)


def test_few_of_many_are_not_none() -> None:
    many = list(Phone(readings=20_000).records())
    found = looked_at(numbered([FetchedRecord(b"nonsense", None, (), NOW_MS, 0), *many]))[0]
    assert "1 (<0.01%) can't be read" in found.text
