"""What is on an input topic: whether its records are read, and why some are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kafka.structs import TopicPartition

from ingest.record_columns import Records
from ingest.rejections import Rejection
from service.doctor.findings import Finding, counted, note, ok, wrong


def examine_records(
    topic: str, latest: Mapping[TopicPartition, Records], refused: Mapping[TopicPartition, Sequence[Rejection]]
) -> Iterator[Finding]:
    """Say how many records were looked at, and which of them would go to the dead letters."""
    total = sum(map(len, latest.values()))
    if not total:
        yield note(f"{topic} holds no records: nothing to look at")
        return
    times = [int(stamp) for records in latest.values() for stamp in (records.timestamp[0], records.timestamp[-1])]
    count = sum(map(len, refused.values()))
    looked_at = f"{counted(total, 'record')} of {counted(len(latest), 'partition')}, the latest, of {_span(times)}"
    if not count:
        yield ok(f"{looked_at}: all can be read")
        return
    yield wrong(f"{looked_at}: {count:,} ({count / total:.2%}) can't be read, and go to the dead letters")
    reasons = Counter(rejection.reason for some in refused.values() for rejection in some)
    for reason, number in reasons.most_common():
        source, first = next(
            (source, each) for source, some in refused.items() for each in some if each.reason == reason
        )
        where = f"{source.topic}[{source.partition}] at {int(latest[source].offset[first.record])}"
        yield wrong(f"{number:,} {reason} ({reason.meaning}); the first is {where}: {first.detail}")


def _span(times: Sequence[int]) -> str:
    seconds = (max(times) - min(times)) / 1000
    return f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:.1f} s"
