"""Where a newcomer goes on, and from where and up to where the output and the dead letters are to be read before."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.labels_reader import LabelsReader
from service.delivery.partition import Output
from service.delivery.recovery import NO_END, LabelsToRead, Place, Plan, plan
from service.delivery.said import Identity, Mark
from service.settings import KindSettings

log = logging.getLogger(__name__)

# A dead letter has its record's timestamp: how much older than a record before it another one may say that it is.
LETTER_SKEW_MS = 60_000
# How much older a label may be than its record says that it is: whoever sent the record may have a clock that is ahead
# of this worker's, and brokers refuse only what is from farther ahead (message.timestamp.after.max.ms).
LABEL_SKEW_MS = 3_600_000


@dataclass(slots=True, eq=False)
class Request:
    """A partition that has been assigned; its object stands for this assignment.

    ``not_before`` and ``tell_at`` are the thread's own: when to look, and when to tell that there is nothing to see.
    """

    source: TopicPartition
    not_before: float
    asked_at: float
    tell_at: float = 0.0


@dataclass(slots=True, eq=False)
class Lookup:
    """One newcomer whose labels and dead letters are being read: how far, of which partitions, each with its end.

    ``log_end`` is the next offset of its own log.
    """

    request: Request
    plan: Plan
    output: Output
    committed: OffsetAndMetadata | None
    log_end: int
    positions: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    said: dict[Identity, Mark] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether all has been read to its end."""
        return all(self.positions[partition] >= end for partition, end in self.ends.items())

    def move_on(self, reached: Mapping[TopicPartition, int]) -> bool:
        """Take note of how far has been read; tell whether that is further than before."""
        further = {
            partition: reached[partition]
            for partition, position in self.positions.items()
            if reached.get(partition, position) > position
        }
        self.positions |= further
        return bool(further)


def look_up(
    reader: LabelsReader,
    settings: KindSettings,
    rules: str,
    request: Request,
    committed: OffsetAndMetadata | None,
    *,
    bounded: bool,
) -> Lookup:
    """Find out where a newcomer goes on, and what of the output and the dead letters is to be read before.

    Where it is ``bounded``, it is to be read up to where its commit says. Topics were looked at after the commit was
    read. Raises KafkaError.
    """
    source = request.source
    start, end = reader.bounds([source], committed=True)[source]
    topic = settings.output_topic
    outputs = reader.partitions_of(topic)
    if not outputs:
        raise UnknownTopicOrPartitionError(f"{topic} is not there")
    own = TopicPartition(topic, source.partition % outputs)
    at = None if committed is None else (committed.offset, committed.metadata)
    # Whoever resets a group to the latest record may do so while a transaction is open, beyond what is committed.
    beyond = committed is not None and committed.offset > end
    log_end = reader.bounds([source], committed=False)[source][1] if beyond else end
    planned = plan(Place(at, start, log_end, own, outputs, rules, bounded))
    if bounded and planned.end == NO_END:  # a partition that was added since, or Kafka doesn't know yet
        raise KafkaError("no commit says where it ends")
    # The end is asked for after the commit was read: labels that the commit relies on are before it.
    labels = planned.labels
    if labels is not None and labels.offset is None and labels.since_offset >= end:
        labels = None  # no record yet, so no label of one
    positions, ends = _ranges(reader, source, labels, own, outputs)
    own_end = ends[own] if own in ends else reader.bounds([own], committed=False)[own][1]
    if planned.labels is not None and planned.position < end:
        letters = _letter_ranges(reader, source, planned.position, settings.dead_letter_topic)
        positions, ends = positions | letters[0], ends | letters[1]
    output = Output(own, outputs, own_end)
    if committed is not None and (committed.offset != planned.position or not committed.metadata):
        # Committed again beside labels, it would have a successor hold nothing as said, those labels neither.
        committed = None
    return Lookup(request, planned, output, committed, end, positions, ends)


def _ranges(
    reader: LabelsReader,
    source: TopicPartition,
    labels: LabelsToRead | None,
    own: TopicPartition,
    outputs: int,
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return from where and up to where to read partitions of the output."""
    if labels is None:
        return {}, {}
    partitions = [own] if labels.offset is not None else [own._replace(partition=p) for p in range(outputs)]
    bounds = reader.bounds(partitions, committed=False)
    ends = {partition: end for partition, (_, end) in bounds.items()}
    if labels.offset is not None:
        if labels.offset < bounds[own][0]:
            log.warning("labels from %d of %s[%d] have expired; one may be said again", labels.offset, *own)
        elif labels.offset > ends[own]:
            log.warning("%s[%d] ends at %d, before %d: all its labels are read", *own, ends[own], labels.offset)
            return {own: bounds[own][0]}, ends  # the topic was made anew
        return {own: max(labels.offset, bounds[own][0])}, ends
    timestamp = reader.time_of(source, labels.since_offset)
    if timestamp is None:  # there is no record yet, so no label of one
        return {}, {}
    found = reader.offsets_at(partitions, timestamp - LABEL_SKEW_MS)
    return {partition: ends[partition] if at is None else at for partition, at in found.items()}, ends


def _letter_ranges(
    reader: LabelsReader, source: TopicPartition, position: int, topic: str
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return from where and up to where dead letters may lie of records that are still to be read.

    Kafka has been seen to answer with a commit of half an hour ago, right after it came back. Labels make up for
    that; a record that was rejected since is known by its dead letter.
    """
    partitions = [TopicPartition(topic, number) for number in range(reader.partitions_of(topic))]
    bounds = reader.bounds(partitions, committed=False)
    ends = {partition: end for partition, (start, end) in bounds.items() if start < end}
    timestamp = reader.time_of(source, position) if ends else None
    if timestamp is None:
        return {}, {}
    found = reader.offsets_at(ends, timestamp - LETTER_SKEW_MS)
    positions = {partition: at for partition, at in found.items() if at is not None}
    return positions, {partition: ends[partition] for partition in positions}
