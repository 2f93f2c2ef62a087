"""What is said of readings that were sent: each mistake that people make with their first devices, and none."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.structs import TopicPartition

from ingest.record_columns import FetchedRecord, Records
from ingest.rejections import Reason
from service.activity_worker import decoder, windower
from service.doctor.devices import examine_devices
from service.doctor.findings import Finding, Verdict
from service.doctor.records import examine_records
from service.settings import ActivitySettings

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
    unit_ms: int = 1
    clock_ms: int = 0

    def records(self) -> Iterator[FetchedRecord]:
        for number in range(self.readings):
            at = self.first_ms + number * self.every_ms
            reading = {"device_id": self.name, "timestamp": (at + self.clock_ms) // self.unit_ms}
            value = json.dumps(reading | {"x": 0.0, "y": self.length, "z": 0.0}).encode()
            yield FetchedRecord(value, self.name.encode(), (), at, 0)


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
    found = examined(partition(*phones), settings=settings)[-1]
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


def test_windows_that_lack_readings_are_counted_whoever_else_has_only_begun() -> None:
    """Of 860 slots 60 are empty; three of the windows, which start every 40, share five or more with them."""
    newcomers = [Phone(f"new-{number}", readings=10) for number in range(5)]
    findings = examined(partition(Phone(), Phone(first_ms=NOW_MS + 400 * 50 + 3000), *newcomers))
    assert the(findings, "get a label").text.startswith("only 16 of 19 windows get a label; the others have a hole")
    assert the(findings, "get a label").verdict is Verdict.NOTE


def test_devices_that_send_too_rarely_get_no_label() -> None:
    findings = examined(partition(Phone(every_ms=1000, readings=20)))
    assert the(findings, "a second in the median").text == "1 device, with 1.0 readings a second in the median"
    assert "only 0 of " in the(findings, "get a label").text


def test_of_one_reading_each_nothing_can_be_told() -> None:
    findings = examined(partition(Phone("a", readings=1), Phone("b", readings=1)))
    assert bad(findings) == [
        "2 devices, none of them with two readings",
        "no window of 4 s closes within these records: look at more of them, with --records",
    ]


def test_a_device_on_two_partitions_is_named() -> None:
    findings = examined(partition(Phone("torn"), Phone("whole")), partition(Phone("torn")))
    found = the(findings, "several partitions")
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith("1 device on several partitions, each of which is windowed alone: torn on 0 and 1. ")


def test_the_first_three_of_many_are_named() -> None:
    phones = [Phone(f"p{number}", readings=2) for number in range(5)]
    found = the(examined(partition(*phones), partition(*phones)), "several partitions")
    assert "p0 on 0 and 1, p1 on 0 and 1, p2 on 0 and 1 and 2 more." in found.text


def test_timestamps_in_seconds_are_seen() -> None:
    found = the(examined(partition(Phone("a", unit_ms=1000), Phone("b"))), "before the year 2000")
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith("1 device with timestamps of before the year 2000: a. ")


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_500_000])
def test_a_clock_that_is_off_is_noted(off_ms: int) -> None:
    found = the(examined(partition(Phone("a", clock_ms=off_ms), Phone("b", clock_ms=59_000))), "off by more than 60 s")
    assert found.verdict is Verdict.NOTE
    assert ": a. " in found.text


@pytest.mark.parametrize(
    ("length", "unit", "verdict", "says"),
    [
        (1.0, "m/s2", Verdict.WRONG, "are they in g? Then set activity.unit to g"),
        (9.8, "g", Verdict.WRONG, "they seem to be in m/s² already"),
        (0.2, "m/s2", Verdict.NOTE, "learned from readings with gravity"),
        (9.8, "m/s2", Verdict.OK, None),
        (1.0, "g", Verdict.OK, None),
    ],
)
def test_readings_in_another_unit_or_without_gravity_are_seen(
    length: float, unit: str, verdict: Verdict, says: str | None
) -> None:
    settings = ActivitySettings.model_validate({"unit": unit})
    findings = examined(partition(Phone(length=length)), settings=settings)
    if says is None:
        assert bad(findings) == []
    else:
        assert the(findings, says).verdict is verdict


def test_readings_that_come_too_late_are_noted() -> None:
    in_order = list(Phone(readings=400).records())
    held_back = in_order[100:120]
    findings = examined(numbered([*in_order[:100], *in_order[120:300], *held_back, *in_order[300:]]))
    assert the(findings, "too late").text.startswith("20 readings (5.0%) come too late and are dropped")


def test_an_id_cant_change_what_the_terminal_shows() -> None:
    phone = Phone("\x1b[31mred\n")
    found = the(examined(partition(phone), partition(phone)), "several partitions")
    assert all(character.isprintable() for character in found.text)


def test_the_readings_of_chunks_are_each_their_devices() -> None:
    """A chunk has many readings of one device; the next record's may be another's."""
    rows = np.full((100, 3), [0, 9.8, 0]).tolist()
    chunks = [
        FetchedRecord(
            json.dumps({"device_id": name, "start": at, "rate_hz": 20, "samples": rows}).encode(), None, (), at, 0
        )
        for at in range(NOW_MS, NOW_MS + 20_000, 5000)
        for name in ("a", "b")
    ]
    assert [finding.text for finding in examined(numbered(chunks))] == [
        "2 devices, with 20.0 readings a second in the median",
        "16 of 16 windows get a label",
    ]


def refused(records: Records) -> list[Finding]:
    source = TopicPartition("readings", 3)
    latest: Mapping[TopicPartition, Records] = {source: records}
    return list(examine_records("readings", latest, {source: decoder(SETTINGS)(records)[1]}))


def test_refused_records_are_counted_by_reason_and_the_first_of_each_is_shown() -> None:
    good = list(Phone(readings=97).records())
    nonsense = [FetchedRecord(value, None, (), NOW_MS, 0) for value in (b"nonsense", b"{}", b"more")]
    total, often, once = refused(numbered([*good, *nonsense], first_offset=50))
    assert total.text.endswith("3 (3.00%) can't be read, and go to the dead letters")
    assert often.text.startswith(f"2 not_json ({Reason.NOT_JSON.meaning}); the first is readings[3] at 147: ")
    assert once.text.startswith("1 missing_field (")
    assert {finding.verdict for finding in (total, often, once)} == {Verdict.WRONG}


def test_records_that_can_all_be_read_are_said_to_be() -> None:
    (found,) = refused(partition(Phone(readings=41)))
    assert found.text == "41 records of 1 partition, the latest, of 2.0 s: all can be read"


def test_of_an_empty_topic_there_is_nothing_to_say() -> None:
    (found,) = examine_records("readings", {}, {})
    assert (found.verdict, found.text) == (Verdict.NOTE, "readings holds no records: nothing to look at")
