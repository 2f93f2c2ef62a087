"""``stridecast dead-letters``."""

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kafka.errors import KafkaError
from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.client.access import remedy
from ingest.consumer.labels_reader import source_of, topic_of
from ingest.consumer.latest import Latest, latest_records
from ingest.contract import ERROR_DETAIL_HEADER, ERROR_REASON_HEADER
from ingest.record_batches.record_columns import FetchedRecord
from ingest.rejections import Reason
from service.configuration.security import access_to
from service.configuration.settings import LABELLING_SETTINGS, MEMBER_SETTINGS, SettingsError, TopicSettings
from service.doctor.findings import Verdict
from service.doctor.records import examine_completeness
from service.host.terminal import beginning, printable
from service.kafka_admin.topics import TopicError, count_partitions

SHOWN_CHARACTERS = 300
UNTOLD = "(no reason given)"
REASONS = 20
"""Rows of the table; workers know fewer."""
WIDE = 100
"""Columns of a terminal from which on the table has room for what a reason means."""


class Options(TopicSettings):
    """Show the dead letters: how many for which reason, and the latest of them, with what was wrong where.

    A dead letter is a copy, byte for byte, of a record that a worker couldn't read. This command changes nothing. It
    exits with status 1 if it could not read the letters of some partition.
    """

    unused = (
        *MEMBER_SETTINGS,
        *LABELLING_SETTINGS,
        "activity.input_topic",
        "activity.output_topic",
        "text.input_topic",
        "text.output_topic",
        "text.max_bytes",
    )

    reason: list[str] = Field([], description=f"show only letters with these reasons: {', '.join(Reason)}")
    records: int = Field(10_000, ge=1, le=1_000_000, description="how many letters to count, the latest of each topic")
    show: int = Field(10, ge=0, le=10_000, description="how many of each topic's latest letters to show in full")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, as its headers tell it: `source` is where the record was, as topic[partition] at offset."""

    record: FetchedRecord
    reason: str
    detail: str
    source: str


def run(options: Options) -> int:
    """Print them, topic by topic; return 1 where some did not come. Raises TopicError, SettingsError."""
    for reason in options.reason:
        if reason not in list(Reason):
            raise SettingsError(f"--reason {printable(reason)}: no such reason; there are {', '.join(Reason)}")
    console = Console(highlight=False, soft_wrap=True)
    verdicts: set[Verdict] = set()
    for topic in dict.fromkeys(kind.dead_letter_topic for kind in options.kinds):
        if count_partitions(access_to(options.kafka), topic) is None:
            creates = "`stridecast topics`, with the same flags for Kafka and topics, creates it"
            console.print(f"{topic}: there is no such topic; {creates}")
            continue
        latest = _read(options, topic)
        letters = sorted(
            (_letter(record) for records in latest.records.values() for record in records),
            key=lambda letter: letter.record.timestamp,
        )
        chosen = [letter for letter in letters if not options.reason or letter.reason in options.reason]
        console.print(Text(f"{topic}: {_how_many(len(chosen), len(letters), options, latest)}", "bold"))
        for finding in examine_completeness(topic, latest):
            verdicts.add(finding.verdict)
            console.print(Text(finding.text, "yellow"))
        if chosen:
            console.print(*_counts(chosen, console.width), sep="\n")
        for letter in chosen[len(chosen) - min(options.show, len(chosen)) :]:
            console.print(*_lines(letter), sep="\n")
    return 1 if Verdict.WRONG in verdicts else 0


def _read(options: Options, topic: str) -> Latest:
    try:
        return latest_records(access_to(options.kafka), topic, options.records, time.monotonic)
    except KafkaError as error:
        raise TopicError(f"can't read {topic}: {remedy(error)}") from error


def _letter(record: FetchedRecord) -> Letter:
    headers = dict(record.headers)  # the last of a name counts
    where = source_of(record)
    source = f"{topic_of(record) or '?'}[{where[0]}] at {where[1]}" if where else "?"
    reason, detail = (
        beginning(headers.get(name) or b"", SHOWN_CHARACTERS) for name in (ERROR_REASON_HEADER, ERROR_DETAIL_HEADER)
    )
    return Letter(record, reason or UNTOLD, detail, printable(source[:SHOWN_CHARACTERS]))


def _how_many(count: int, looked_at: int, options: Options, latest: Latest) -> str:
    of = f" of {', '.join(options.reason)}" if options.reason else ""
    among = "" if latest.whole else f", among the latest {looked_at:,}"
    return f"{count:,} dead letter{'' if count == 1 else 's'}{of}{among}"


def _counts(letters: Sequence[Letter], width: int) -> Iterator[Table | Text]:
    """Count them by reason; what a reason means is in the table where there is room, and else below it."""
    wide = width >= WIDE
    table = Table("reason")
    if wide:
        table.add_column("what that means")
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    table.add_column("letters", justify="right", no_wrap=True)
    meanings = {str(reason): reason.meaning for reason in Reason}
    times: dict[str, list[int]] = {}
    for letter in letters:
        times.setdefault(letter.reason, []).append(letter.record.timestamp)
    reasons = sorted(times, key=lambda reason: -len(times[reason]))
    for reason in reasons[:REASONS]:
        meaning = [meanings.get(reason, "")] * wide
        first, last = _time(times[reason][0]), _time(times[reason][-1])
        table.add_row(Text(reason), *meaning, first, last, f"{len(times[reason]):,}")
    if len(reasons) > REASONS:  # which no worker gave
        rest = sum(len(times[reason]) for reason in reasons[REASONS:])
        table.add_row(f"{len(reasons) - REASONS:,} others", *[""] * (2 + wide), f"{rest:,}")
    yield table
    if not wide:
        yield from (Text(f"{reason}: {meanings[reason]}") for reason in reasons[:REASONS] if reason in meanings)


def _lines(letter: Letter) -> Iterator[Text]:
    record = letter.record
    yield Text(f"{_time(record.timestamp)}  {letter.source}  {letter.reason}: {letter.detail}")
    yield Text(f"    key {beginning(record.key, SHOWN_CHARACTERS)}", "dim")
    yield Text(f"    {beginning(record.value, SHOWN_CHARACTERS)}", "dim")


def _time(timestamp_ms: int) -> str:
    """Return a record's Kafka timestamp for people, in UTC; it may be anything in 64 bits."""
    try:
        return f"{datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)
