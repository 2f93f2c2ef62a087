"""Where to start reading a newly assigned partition: a pure function of its commit and its log."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kafka.structs import TopicPartition

from ingest import snapshot

NO_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What Kafka knows of a partition: its commit, its log, and its output.

    ``committed`` is position and metadata, None without a commit. ``log_start`` and ``log_end`` are its first and next
    offsets. Its labels go to ``output`` now, one of ``outputs`` partitions. If ``bounded``, the commit says where the
    partition ends.
    """

    committed: tuple[int, str] | None
    log_start: int
    log_end: int
    output: TopicPartition
    outputs: int
    rules: str = ""
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class LabelsToRead:
    """Which labels to read back: from ``offset`` on in the partition's own output partition.

    Without ``offset``, from all output partitions, from the time of the input record at ``since_offset`` on.
    """

    offset: int | None = None
    since_offset: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to recover: read from ``rewind_to``; records before ``position`` only rebuild windows and aren't counted.

    ``labels`` says which labels to read back first (None: no label counts as published). With ``publishes_replay``,
    windows that close during the replay are published, unless they have been: the last worker's other rules closed
    other windows. A replay skips the readings of the devices in ``skip_until``, each up to a record. Records from
    ``end`` on are not to be read. ``warnings`` are sentences for the operator, if the commit doesn't fit.
    """

    position: int
    rewind_to: int
    labels: LabelsToRead | None
    publishes_replay: bool = False
    skip_until: Mapping[bytes, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    end: int = NO_END


def plan(state: PartitionState) -> Plan:
    """Decide where to start reading."""
    found = _plan(state)
    if not state.bounded:
        return found
    told = None if state.committed is None else committed_end(*state.committed)
    end = NO_END if told is None else told
    return replace(found, end=end, labels=found.labels if found.rewind_to < end else None)


def committed_end(position: int, metadata: str) -> int | None:
    """Return the end of a partition according to its commit; None if that has none."""
    try:
        found = snapshot.decode(metadata, position)
    except snapshot.SnapshotError:
        return None
    return found.end if isinstance(found, snapshot.Snapshot) and isinstance(found.end, int) else None


def _plan(state: PartitionState) -> Plan:
    if state.committed is None:
        return Plan(state.log_start, state.log_start, LabelsToRead(since_offset=state.log_start))
    position, metadata = state.committed
    if not state.log_start <= position <= state.log_end:
        warning = (
            f"the committed position {position} lies outside the log, which holds {state.log_start} to "
            f"{state.log_end}: records expired, the log was cut off, or the topic was made anew; reading from the "
            "earliest record"
        )
        # If the log was cut off, many of its records have been labelled. If records have expired, those that follow
        # have not, except in a backfill, where another group may have labelled them.
        labels = LabelsToRead(since_offset=state.log_start) if position > state.log_end or state.bounded else None
        return Plan(state.log_start, state.log_start, labels, warnings=(warning,))
    if not metadata:  # an operator reset the group
        return Plan(position, position, None)
    try:
        found = snapshot.decode(metadata, position)
    except snapshot.SnapshotError as error:
        warning = f"the commit's metadata can't be used ({error}); windows open at position {position} are lost"
        return Plan(position, position, LabelsToRead(since_offset=position), warnings=(warning,))
    return _from_snapshot(state, position, found)


def _from_snapshot(state: PartitionState, position: int, found: snapshot.Snapshot | snapshot.Foreign) -> Plan:
    warnings = []
    rewind_to = found.rewind_to
    if rewind_to < state.log_start:
        warnings.append(
            f"records from {rewind_to} to {state.log_start - 1} have expired; windows that they began may be incomplete"
        )
        rewind_to = state.log_start
    publishes_replay, skip_until = False, dict[bytes, int]()
    if isinstance(found, snapshot.Foreign):
        labels = LabelsToRead(since_offset=rewind_to)
        warnings.append("another version of the worker made the commit; labels since its rewind point are read back")
    else:
        skip_until = {device: found.rewind_to + record for device, record in found.skip_until.items()}
        here = (state.output.topic, state.output.partition, state.outputs)
        labels = (
            LabelsToRead(offset=found.labels_from) if found.labels_from >= 0 else LabelsToRead(since_offset=rewind_to)
        )
        if here != (found.topic, found.partition, found.partitions):
            labels = LabelsToRead(since_offset=rewind_to)
            warnings.append(
                f"labels went to {found.topic}[{found.partition}] of {found.partitions} partitions, and go to "
                f"{here[0]}[{here[1]}] of {here[2]} now; all its labels since the rewind point are read back"
            )
        if found.rules != state.rules:
            labels, publishes_replay = LabelsToRead(since_offset=rewind_to), True
            warnings.append(
                f"a worker with other settings ({found.rules or 'none'}) made the commit, and this one has "
                f"{state.rules or 'none'}: what it left open is closed by the new ones"
            )
    return Plan(position, rewind_to, labels, publishes_replay, skip_until, tuple(warnings))
