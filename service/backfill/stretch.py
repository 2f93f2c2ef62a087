"""Which records a backfill is about: those of a stretch of time, but for what a worker at work is still to label."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from ingest.access import Servers
from service.delivery.span import Span
from service.kind import WorkerError
from service.settings import KindSettings
from service.topics import admin_client, ask_of_groups, count_partitions


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the first record that is as late as ``since`` to the first as late as ``until``, by their timestamps."""

    since: datetime.datetime | None
    until: datetime.datetime | None


def group_of(base: str, topics: KindSettings, stretch: Stretch) -> str:
    """Name the group of a backfill: whoever does the same shares its partitions, or goes on with it later."""
    what = f"{topics.input_topic} {stretch.since} {stretch.until}"
    return f"{base}-backfill-{topics.output_topic}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def locate(servers: Servers, topics: KindSettings, worker_group: str, stretch: Stretch) -> Span:
    """Ask Kafka for the offsets of a stretch of the input.

    Where workers of ``worker_group`` put their labels into the same output, a partition ends where they are: what is
    open there is theirs to label. Raises TopicError or WorkerError.
    """
    partitions = count_partitions(servers, topics.input_topic)
    if partitions is None:
        raise WorkerError(f"Kafka at {servers} has no topic {topics.input_topic}: there is nothing to label")
    sources = [TopicPartition(topics.input_topic, number) for number in range(partitions)]
    with admin_client(servers) as admin:
        log_ends = _offsets(admin, sources, OffsetSpec.LATEST)
        ends = log_ends if stretch.until is None else _offsets_at(admin, log_ends, stretch.until)
        firsts = (
            _offsets(admin, sources, OffsetSpec.EARLIEST)
            if stretch.since is None
            else _offsets_at(admin, log_ends, stretch.since)
        )
        commits = _commits(admin, worker_group, sources)
    theirs = {
        source: min(at.offset, ends[source])
        for source, at in commits.items()
        if _may_go_to(at, topics.output_topic) and open_from(at) <= ends[source]
    }
    return Span(firsts, {**ends, **theirs}, frozenset(theirs))


def _offsets(
    admin: KafkaAdminClient, sources: Sequence[TopicPartition], spec: OffsetSpec | int
) -> dict[TopicPartition, int]:
    """Return each partition's offset; what follows an open transaction's first record can't be read yet (KIP-98)."""
    found = admin.list_partition_offsets(dict.fromkeys(sources, spec), isolation_level=IsolationLevel.READ_COMMITTED)
    return {source: int(at.offset) for source, at in found.items()}


def _offsets_at(
    admin: KafkaAdminClient, log_ends: Mapping[TopicPartition, int], moment: datetime.datetime
) -> dict[TopicPartition, int]:
    found = _offsets(admin, list(log_ends), max(0, int(moment.timestamp() * 1000)))
    return {source: end if found[source] < 0 else min(found[source], end) for source, end in log_ends.items()}


def _commits(
    admin: KafkaAdminClient, group: str, sources: Sequence[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    try:
        found: Mapping[TopicPartition, OffsetAndMetadata] = ask_of_groups(
            lambda: admin.list_group_offsets({group: list(sources)})[group]
        )
    except GroupAuthorizationFailedError as error:
        raise WorkerError(
            f"this user may not see how far the workers of group {group} are, whose labels would be said twice: "
            "the ACL DESCRIBE on it is missing"
        ) from error
    return {source: at for source, at in found.items() if at.offset >= 0}


def _may_go_to(commit: OffsetAndMetadata, output_topic: str) -> bool:
    """Tell whether whoever committed may have been writing its labels to this topic."""
    said = _snapshot(commit)
    return not isinstance(said, snapshot.Snapshot) or said.topic == output_topic


def open_from(commit: OffsetAndMetadata) -> int:
    """Return the first record of which something may still be open where the workers are."""
    said = _snapshot(commit)
    return int(commit.offset) if said is None else said.rewind_to


def _snapshot(commit: OffsetAndMetadata) -> snapshot.Snapshot | snapshot.Foreign | None:
    try:
        return snapshot.decode(commit.metadata, commit.offset)
    except snapshot.SnapshotError:
        return None
