"""Which labels and dead letters to read back before a newly assigned partition starts: offsets for each topic."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest.consumer.labels_reader import LabelsReader
from service.configuration.settings import KindSettings
from service.delivery.partition import Output
from service.delivery.published import Identity, Mark
from service.delivery.recovery_plan import NO_END, LabelsToRead, PartitionState, Plan, plan

log = logging.getLogger(__name__)

# A dead letter has the timestamp of its record. A record may be so much older, by its timestamp, than one before it.
LETTER_SKEW_MS = 60_000
# A label may be so much older, by its timestamp, than its record: the sender's clock may be ahead of the worker's, and
# brokers refuse only timestamps that are further ahead (message.timestamp.after.max.ms).
LABEL_SKEW_MS = 3_600_000


@dataclass(slots=True, eq=False)
class Request:
    """The request for a newly assigned partition; the object stands for this assignment.

    ``not_before`` belongs to the recovery thread: when to try next.
    """

    source: TopicPartition
    not_before: float
    asked_at: float


@dataclass(slots=True, eq=False)
class ReadBack:
    """The read-back for one newly assigned partition, of its labels and dead letters.

    ``positions`` and ``ends`` say how far each partition has been read, and up to where it will be. ``log_end`` is the
    next offset of the input partition. ``published`` and ``reported`` are what was found: labels, and the offsets of
    records that have a dead letter already. ``committed`` is None without a commit that may be committed again.
    """

    request: Request
    plan: Plan
    output: Output
    committed: OffsetAndMetadata | None
    log_end: int
    positions: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    published: dict[Identity, Mark] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether every partition has been read to its end."""
        return all(self.positions[partition] >= end for partition, end in self.ends.items())

    def move_on(self, reached: Mapping[TopicPartition, int]) -> bool:
        """Record how far has been read; return whether that is further than before."""
        further = {
            partition: reached[partition]
            for partition, position in self.positions.items()
            if reached.get(partition, position) > position
        }
        self.positions |= further
        return bool(further)


def plan_read_back(
    reader: LabelsReader,
    settings: KindSettings,
    rules: str,
    request: Request,
    committed: OffsetAndMetadata | None,
    *,
    bounded: bool,
) -> ReadBack:
    """Plan the recovery of a newly assigned partition, and which labels and dead letters to read back for it.

    A ``bounded`` partition is read up to the end in its commit. The reader's metadata of topics must be newer than
    ``committed``. Raises KafkaError.
    """
    source = request.source
    start, end = reader.bounds([source], committed=True)[source]
    topic = settings.output_topic
    outputs = reader.partitions_of(topic)
    if not outputs:
        raise UnknownTopicOrPartitionError(f"{topic} is not there")
    own = TopicPartition(topic, source.partition % outputs)
    at = None if committed is None else (committed.offset, committed.metadata)
    # A group may be reset to the latest record while a transaction is open, hence beyond the last stable offset.
    beyond = committed is not None and committed.offset > end
    log_end = reader.bounds([source], committed=False)[source][1] if beyond else end
    planned = plan(PartitionState(at, start, log_end, own, outputs, rules, bounded))
    if bounded and planned.end == NO_END:  # the partition was added since, or Kafka doesn't know yet
        raise KafkaError("no commit says where it ends")
    # The end is requested after the commit was read, so the labels that the commit relies on lie before it.
    labels = planned.labels
    if labels is not None and labels.offset is None and labels.since_offset >= end:
        labels = None  # no record yet, hence no label
    positions, ends = _ranges(reader, source, labels, own, outputs)
    own_end = ends[own] if own in ends else reader.bounds([own], committed=False)[own][1]
    if planned.labels is not None and planned.position < end:
        letters = _letter_ranges(reader, source, planned.position, settings.dead_letter_topic)
        positions, ends = positions | letters[0], ends | letters[1]
    output = Output(own, outputs, own_end)
    if committed is not None and (committed.offset != planned.position or not committed.metadata):
        # If it were committed again in a transaction with labels, a successor would count no label as published, not
        # even those.
        committed = None
    return ReadBack(request, planned, output, committed, end, positions, ends)


def _ranges(
    reader: LabelsReader,
    source: TopicPartition,
    labels: LabelsToRead | None,
    own: TopicPartition,
    outputs: int,
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return from where, and up to where, to read back the output partitions."""
    if labels is None:
        return {}, {}
    partitions = [own] if labels.offset is not None else [own._replace(partition=p) for p in range(outputs)]
    bounds = reader.bounds(partitions, committed=False)
    ends = {partition: end for partition, (_, end) in bounds.items()}
    if labels.offset is not None:
        if labels.offset < bounds[own][0]:
            log.warning("labels from %d of %s[%d] have expired; one may be published again", labels.offset, *own)
        elif labels.offset > ends[own]:
            log.warning("%s[%d] ends at %d, before %d: all its labels are read", *own, ends[own], labels.offset)
            return {own: bounds[own][0]}, ends  # the topic was deleted and created again
        return {own: max(labels.offset, bounds[own][0])}, ends
    timestamp = reader.time_of(source, labels.since_offset)
    if timestamp is None:  # no record yet, hence no label
        return {}, {}
    found = reader.offsets_at(partitions, timestamp - LABEL_SKEW_MS)
    return {partition: ends[partition] if at is None else at for partition, at in found.items()}, ends


def _letter_ranges(
    reader: LabelsReader, source: TopicPartition, position: int, topic: str
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return from where, and up to where, dead letters of records that are still to be read may lie.

    Kafka has been seen to answer with a commit of half an hour ago, right after it came back. Reading back labels makes
    up for that. Likewise, the dead letters show which records have been rejected since.
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
