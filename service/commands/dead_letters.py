"""``stridecast dead-letters``."""

import datetime
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kafka.errors import KafkaError
from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.access import remedy
from ingest.contract import ERROR_DETAIL_HEADER, ERROR_REASON_HEADER
from ingest.labels_reader import source_of, topic_of
from ingest.latest import latest_records
from ingest.record_columns import FetchedRecord
from ingest.rejections import Reason
from service.security import access_to
from service.settings import KindSettings, TopicSettings
from service.terminal import beginning, printable
from service.topics import TopicError, count_partitions

SHOWN_CHARACTERS = 300
UNTOLD = "(no reason given)"


class Options(TopicSettings):
    """Show the dead letters: how many for which reason, and the latest of them, with what was wrong where.

    A dead letter is a record of an input topic that a worker couldn't read, byte for byte. Changes nothing.
    """

    reason: list[Reason] = Field([], description="show those of these reasons alone, such as not_json")
    records: int = Field(10_000, ge=1, le=1_000_000, description="letters to count, the latest of each topic")
    show: int = Field(10, ge=0, le=10_000, description="of each topic, so many of the latest whole")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, as its headers tell it: `source` is where the record was, as topic[partition] at offset."""

    record: FetchedRecord
    reason: str
    detail: str
    source: str


def run(options: Options) -> None:
    """Print them, topic by topic; raises TopicError."""
    console = Console(highlight=False, soft_wrap=True)
    kinds = [group for _, group in options if isinstance(group, KindSettings)]
    for topic in dict.fromkeys(kind.dead_letter_topic for kind in kinds):
        if count_partitions(access_to(options.kafka), topic) is None:
            console.print(f"{topic}: there is no such topic; `stridecast topics` creates it")
            continue
        letters = _read(options, topic)
        chosen = [letter for letter in letters if not options.reason or letter.reason in options.reason]
        console.print(Text(f"{topic}: {_how_many(len(chosen), options)}", "bold"))
        if chosen:
            console.print(_table(chosen))
        for letter in chosen[len(chosen) - min(options.show, len(chosen)) :]:
            console.print(*_lines(letter), sep="\n")


def _read(options: Options, topic: str) -> list[Letter]:
    """Return the latest letters of a topic, in order of time."""
    try:
        latest = latest_records(access_to(options.kafka), topic, options.records, time.monotonic)
    except KafkaError as error:
        raise TopicError(f"can't read {topic}: {remedy(error)}") from error
    letters = [_letter(record) for records in latest.records.values() for record in records]
    return sorted(letters, key=lambda letter: letter.record.timestamp)


def _letter(record: FetchedRecord) -> Letter:
    headers = dict(record.headers)  # the last of a name counts
    where = source_of(record)
    source = f"{printable(topic_of(record) or '?')}[{where[0]}] at {where[1]}" if where else "?"
    reason, detail = (
        printable((headers.get(name) or b"").decode(errors="replace"))
        for name in (ERROR_REASON_HEADER, ERROR_DETAIL_HEADER)
    )
    return Letter(record, reason or UNTOLD, detail, source)


def _how_many(count: int, options: Options) -> str:
    of = f" of {', '.join(options.reason)}" if options.reason else ""
    latest = f", of the latest {options.records:,} looked at" if count >= options.records or options.reason else ""
    return f"{count:,} dead letter{'' if count == 1 else 's'}{of}{latest}"


def _table(letters: Sequence[Letter]) -> Table:
    """Count them by reason."""
    table = Table("reason", "what that means", "first", "last")
    table.add_column("letters", justify="right")
    meanings = {str(reason): reason.meaning for reason in Reason}
    for reason, count in Counter(letter.reason for letter in letters).most_common():
        times = [letter.record.timestamp for letter in letters if letter.reason == reason]
        table.add_row(reason, meanings.get(reason, ""), _time(times[0]), _time(times[-1]), f"{count:,}")
    return table


def _lines(letter: Letter) -> Iterator[Text]:
    record = letter.record
    yield Text(f"{_time(record.timestamp)}  {letter.source}  {letter.reason}: {letter.detail}")
    yield Text(f"    key {beginning(record.key, SHOWN_CHARACTERS)}", "dim")
    yield Text(f"    {beginning(record.value, SHOWN_CHARACTERS)}", "dim")


def _time(timestamp_ms: int) -> str:
    """Return a record's Kafka timestamp for people, UTC; it may be anything in 64 bits."""
    try:
        return f"{datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)
