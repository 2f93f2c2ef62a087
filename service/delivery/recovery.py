"""Where to go on with a partition that has just been assigned: a pure function of what Kafka says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kafka.structs import TopicPartition

from ingest import snapshot

NO_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """What Kafka says of a partition.

    Its commit (position and metadata; None without one), its first and next offsets, and where its labels go now.
    Where it is ``bounded``, the commit tells where it ends.
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
    """Which labels to read back: of the partition's own output, from ``offset`` on, or of all partitions of the output.

    The latter from the time of the input's record at ``since_offset`` on.
    """

    offset: int | None = None
    since_offset: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Read from ``rewind_to``; records before ``position`` only rebuild windows and are not counted again.

    ``labels`` are to be known before (None: nothing is held as said). ``aloud`` lets windows that close during the
    replay be said, unless they have been: another worker's rules closed other ones. ``skip_until`` are devices whose
    readings are passed over, each up to a record. Records from ``end`` on are not to be read. ``warnings`` are
    sentences for the operator, where what was committed doesn't fit.
    """

    position: int
    rewind_to: int
    labels: LabelsToRead | None
    aloud: bool = False
    skip_until: Mapping[bytes, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    end: int = NO_END


def plan(place: Place) -> Plan:
    """Decide where to begin."""
    found = _plan(place)
    if not place.bounded:
        return found
    told = None if place.committed is None else told_end(*place.committed)
    end = NO_END if told is None else told
    return replace(found, end=end, labels=found.labels if found.rewind_to < end else None)


def told_end(position: int, metadata: str) -> int | None:
    """Return where a commit says that its partition ends; None where it says nothing of that."""
    try:
        found = snapshot.decode(metadata, position)
    except snapshot.SnapshotError:
        return None
    return found.end if isinstance(found, snapshot.Snapshot) and isinstance(found.end, int) else None


def _plan(place: Place) -> Plan:
    if place.committed is None:
        return Plan(place.log_start, place.log_start, LabelsToRead(since_offset=place.log_start))
    position, metadata = place.committed
    if not place.log_start <= position <= place.log_end:
        warning = (
            f"the committed position {position} lies outside the log, which holds {place.log_start} to "
            f"{place.log_end}: records expired, the log was cut off, or the topic was made anew; reading from the "
            "earliest record"
        )
        # Of a log that was cut off, much has been labelled; of what took the place of expired records, nothing, unless
        # others have labelled it.
        labels = LabelsToRead(since_offset=place.log_start) if position > place.log_end or place.bounded else None
        return Plan(place.log_start, place.log_start, labels, warnings=(warning,))
    if not metadata:  # an operator reset the group
        return Plan(position, position, None)
    try:
        found = snapshot.decode(metadata, position)
    except snapshot.SnapshotError as error:
        warning = f"the commit's metadata can't be used ({error}); windows open at position {position} are lost"
        return Plan(position, position, LabelsToRead(since_offset=position), warnings=(warning,))
    return _from_snapshot(place, position, found)


def _from_snapshot(place: Place, position: int, found: snapshot.Snapshot | snapshot.Foreign) -> Plan:
    warnings = []
    rewind_to = found.rewind_to
    if rewind_to < place.log_start:
        warnings.append(
            f"records from {rewind_to} to {place.log_start - 1} have expired; windows that they began may be incomplete"
        )
        rewind_to = place.log_start
    aloud, skip_until = False, dict[bytes, int]()
    if isinstance(found, snapshot.Foreign):
        labels = LabelsToRead(since_offset=rewind_to)
        warnings.append("another version of the worker made the commit; labels since its rewind point are read back")
    else:
        skip_until = {device: found.rewind_to + record for device, record in found.skip_until.items()}
        here = (place.output.topic, place.output.partition, place.outputs)
        labels = (
            LabelsToRead(offset=found.labels_from) if found.labels_from >= 0 else LabelsToRead(since_offset=rewind_to)
        )
        if here != (found.topic, found.partition, found.partitions):
            labels = LabelsToRead(since_offset=rewind_to)
            warnings.append(
                f"labels went to {found.topic}[{found.partition}] of {found.partitions} partitions, and go to "
                f"{here[0]}[{here[1]}] of {here[2]} now; all its labels since the rewind point are read back"
            )
        if found.rules != place.rules:
            labels, aloud = LabelsToRead(since_offset=rewind_to), True
            warnings.append(
                f"a worker with other settings ({found.rules or 'none'}) made the commit, and this one has "
                f"{place.rules or 'none'}: what it left open is closed by the new ones"
            )
    return Plan(position, rewind_to, labels, aloud, skip_until, tuple(warnings))
