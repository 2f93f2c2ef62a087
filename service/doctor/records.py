"""Checks the records of an input topic: whether they come, whether they can be read, and why some are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from kafka.structs import TopicPartition

from ingest.consumer.latest import Latest
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.doctor.findings import Finding, counted, listed_partitions, note, ok, wrong
from service.doctor.refused import tell_refused
from service.doctor.stamps import plausible

# So many readable records after the last one that was refused say that its sender may be mended.
MANY = 1000


def examine_records(
    topic: str, latest: Latest, refused: Mapping[TopicPartition, Sequence[Rejection]]
) -> Iterator[Finding]:
    """Report how many records were read, and which of them would become dead letters."""
    yield from examine_completeness(topic, latest)
    if not (latest.records or latest.unanswered or latest.barren):
        yield note(f"{topic} holds no records: nothing to look at")
    total = sum(map(len, latest.records.values()))
    if not total:
        return
    where = listed_partitions([source.partition for source in latest.records])
    looked_at = (
        f"the latest record ({where})"
        if total == 1
        else f"the latest {total:,} records ({where}), which arrived within {_span(latest.records)}"
    )
    count = sum(map(len, refused.values()))
    if not count:
        yield ok(f"{looked_at}: all can be read")
        return
    share, since = _share(count, total), _since_the_last(latest, refused)
    yield wrong(f"{looked_at}: {count:,} ({share}) can't be read, and go to the dead letters{since}")
    yield from tell_refused(latest.records, refused)


def examine_completeness(topic: str, latest: Latest) -> Iterator[Finding]:
    """Report records that did not come."""
    if latest.unanswered:
        silent = listed_partitions([source.partition for source in latest.unanswered])
        yield wrong(f"not all came of {silent} of {topic}: can its brokers be reached? The rest is of what did come")
    if latest.undecodable:
        yield wrong(
            f"{counted(latest.undecodable, 'record')} can't be decompressed, and are passed over, by a worker too: "
            "find their producer"
        )
    if latest.barren:
        names = listed_partitions([source.partition for source in latest.barren])
        yield note(f"the last offsets of {names} hold nothing that is committed: look at more of them, with --records")


def _since_the_last(latest: Latest, refused: Mapping[TopicPartition, Sequence[Rejection]]) -> str:
    """Say how many that can be read have come since the last refused record, if many: perhaps its sender is mended."""
    stamps = np.concatenate([records.timestamp for records in latest.records.values()])
    bad = [latest.records[source].timestamp[[each.record for each in some]] for source, some in refused.items() if some]
    last = int(np.concatenate(bad).max())
    since = int((stamps > last).sum())
    return f"; {since:,} that can be read have come since the last of them" if since >= MANY else ""


def _share(count: int, total: int) -> str:
    return f"{count / total:.2%}" if count >= total / 10_000 else "<0.01%"


def _span(latest: Mapping[TopicPartition, Records]) -> str:
    """Say how much time lies between the first and the last record, but for stamps that are far from all others."""
    stamps = np.concatenate([records.timestamp for records in latest.values()])
    seconds = float(np.ptp(stamps[plausible(stamps)]) / 1000)
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
