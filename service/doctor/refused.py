"""Why records are refused, by reason and by field; and of timestamps in another unit, in which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kafka.structs import TopicPartition

from ingest.contract import BINARY_CHUNK_CONTENT_TYPE, BINARY_HEADER, JSON_CONTENT_TYPE
from ingest.messages.json_objects import content_kind, read_object
from ingest.record_batches.record_columns import FetchedRecord, Records
from ingest.rejections import Reason, Refused, Rejection
from service.doctor.clocks import A_DAY_MS
from service.doctor.findings import Finding, wrong
from service.time_units import unit_of

PLACE = re.compile(r"(?:Sample|Chunk|Text|samples)(?:\.\w+|\[\d+\])*(?=: )")
TIMES = "Sample.timestamp", "Chunk.start"
NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
LOOKED_AT = 100
"""So many records of a kind are parsed again for their timestamps."""

_FORMS: dict[bytes | None, bool] = {JSON_CONTENT_TYPE.encode(): True, BINARY_CHUNK_CONTENT_TYPE.encode(): False}


class _Time(NamedTuple):
    """A timestamp that isn't in milliseconds: how it looks, what was sent, and what it should have been."""

    looks: str
    sent: str
    meant_ms: int


def tell_refused(
    latest: Mapping[TopicPartition, Records], refused: Mapping[TopicPartition, Sequence[Rejection]]
) -> Iterator[Finding]:
    """Say how many records are refused for what, the commonest first, each with the first of them as an example."""
    groups: dict[tuple[Reason, str], list[tuple[TopicPartition, Rejection]]] = {}
    for source, rejections in refused.items():
        for each in rejections:
            groups.setdefault((each.reason, _about(each.detail)), []).append((source, each))
    for (reason, about), some in sorted(groups.items(), key=lambda group: -len(group[1])):
        source, first = some[0]
        where = f"{source.topic}[{source.partition}] at {int(latest[source].offset[first.record])}"
        hint = _hint(latest, some) if _may_be_the_time(reason, about) else ""
        yield wrong(f"{len(some):,} {reason} ({reason.meaning}); the first is {where}: {first.detail}{hint}")


def _about(detail: str) -> str:
    """Return the field that a detail is about, the same for all rows of a chunk; empty where it names none."""
    place = PLACE.match(detail)
    return "" if place is None else re.sub(r"\d+", "", place[0])


def _may_be_the_time(reason: Reason, about: str) -> bool:
    return reason in (Reason.BAD_TIMESTAMP, Reason.TOO_FAR_AHEAD) or about in TIMES


def _hint(latest: Mapping[TopicPartition, Records], some: Sequence[tuple[TopicPartition, Rejection]]) -> str:
    """Say in which unit the timestamps of refused records seem to be, where most of those looked at agree."""
    chosen = some[:: -(-len(some) // LOOKED_AT)]
    found = [_time(latest[source][rejection.record]) for source, rejection in chosen]
    times = [time for time in found if time is not None]
    if not times:
        return ""
    ((looks, count),) = Counter(time.looks for time in times).most_common(1)
    if 2 * count <= len(chosen):
        return ""
    example = next(time for time in times if time.looks == looks)
    return (
        f". The timestamps look like {looks}: send milliseconds since 1970 as an integer, such as {example.meant_ms} "
        f"where {example.sent} was sent"
    )


def _time(record: FetchedRecord) -> _Time | None:
    """Return a record's timestamp if it lies near Kafka's in another unit or form than it should."""
    try:
        sent = _sent_time(record)
    except Refused:
        return None
    if sent is None:
        return None
    shown, number = sent
    match unit_of(number, record.timestamp - A_DAY_MS, record.timestamp + A_DAY_MS):
        case None:
            return None
        case "milliseconds", _ if shown.isdecimal():
            return None
        case unit, meant_ms:
            decimals = " with decimals" if "." in shown else ""
            quoted = " in a string" if shown.startswith('"') else ""
            return _Time(f"{unit}{decimals}{quoted}", shown, meant_ms)


def _sent_time(record: FetchedRecord) -> tuple[str, float] | None:
    """Return the timestamp of a sample or a chunk, as it is written and as a number; None where it is no number."""
    value = record.value
    if value is None:
        return None
    if not content_kind(record.headers, _FORMS):
        if len(value) < BINARY_HEADER.size:
            return None
        start: int = BINARY_HEADER.unpack_from(value)[-1]
        return str(start), start
    fields = read_object(value)
    time = fields.get("timestamp", fields.get("start"))
    if isinstance(time, str) and NUMBER.fullmatch(time):
        return f'"{time}"', float(time)
    return (repr(time), time) if isinstance(time, int | float) and not isinstance(time, bool) else None
