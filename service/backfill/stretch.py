"""Which records a backfill labels: decided once, and stored in its group's commits for all processes that take part.

The commit of each partition says where it ends. A process that joins later, or takes over a partition, ends there, too.
Ending elsewhere would close windows that get more readings.
"""

import datetime
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from kafka.admin import KafkaAdminClient
from kafka.errors import NoError, UnknownMemberIdError, UnsupportedVersionError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.backfill.other_workers import OtherWorkers
from service.configuration.settings import KindSettings
from service.delivery.recovery_plan import committed_end
from service.kafka_admin.groups import Commits, ask_of_groups, commits_of
from service.kind import Kind, WorkerError

# A member that died stays in its group for the session timeout.
SETTLE_WITHIN_S = 60.0
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the first record at or after ``since`` to the first one at or after ``until``, by their timestamps."""

    since: datetime.datetime | None
    until: datetime.datetime | None


def group_of(base: str, settings: KindSettings, bundle_digest: str, stretch: Stretch) -> str:
    """Return the name of a backfill's group: processes with equal settings share its partitions, or go on later."""
    what = settings.model_dump_json(exclude={"keep", "bundle"})  # a bundle's folder may be mounted anywhere
    named = f"{what} {bundle_digest} {stretch.since} {stretch.until}"
    return f"{base}-backfill-{settings.output_topic}-{hashlib.sha256(named.encode()).hexdigest()[:12]}"


def begin(
    admin: KafkaAdminClient,
    group: str,
    kind: Kind,
    stretch: Stretch,
    partitions: int,
    outputs: int,
    others: OtherWorkers,
) -> dict[TopicPartition, int]:
    """Decide where each partition begins and ends, unless a backfill is under way that has decided; return the ends.

    There are none if no record lies in the stretch. Raises WorkerError if other workers will label the same records,
    KafkaError for what Kafka refuses.
    """
    sources = [TopicPartition(kind.settings.input_topic, number) for number in range(partitions)]
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while True:
        commits = commits_of(admin, group, sources)
        ends = {source: require_end(group, source, at) for source, at in commits.items() if at.offset >= 0}
        if left := unfinished(commits, ends):
            others.refuse(admin, left)
            return ends
        firsts, ends = _locate(admin, sources, stretch)
        if firsts == ends:
            return {}
        others.refuse(admin, {source: end for source, end in ends.items() if firsts[source] < end})
        if _settle(admin, group, {source: _first_commit(kind, source, firsts, ends, outputs) for source in sources}):
            return ends
        if time.monotonic() > deadline:
            raise WorkerError(f"group {group} has done the same before, and somebody is still in it: try again")
        time.sleep(RETRY_S)


def what_there_is(admin: KafkaAdminClient, topic: str, partitions: int) -> str:
    """Say why no record of a topic lies in a stretch, as far as Kafka tells; raises KafkaError."""
    sources = [TopicPartition(topic, number) for number in range(partitions)]
    starts, ends = (
        admin.list_partition_offsets(dict.fromkeys(sources, spec)) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    if all(starts[source].offset == ends[source].offset for source in sources):
        return f"{topic} holds no records"
    nothing = f"no record of {topic} lies in this range"
    try:
        found = admin.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.MAX_TIMESTAMP))
    except UnsupportedVersionError:  # Kafka before 3.0 (KIP-734)
        return nothing
    latest_ms = max(int(at.timestamp) for at in found.values())
    if latest_ms < 0:  # records without timestamps
        return nothing
    moment = np.datetime64(latest_ms, "ms").astype("datetime64[s]")  # producers set it: perhaps beyond Python's years
    return f"{nothing}; the latest has the Kafka timestamp {moment}Z"


def require_end(group: str, source: TopicPartition, commit: OffsetAndMetadata) -> int:
    """Return the end of a partition according to its commit; raises WorkerError if that has none."""
    end = committed_end(commit.offset, commit.metadata)
    if end is None:
        raise WorkerError(
            f"the commit of group {group} for {source.topic}[{source.partition}] was reset, or is none of a backfill: "
            "delete the group (kafka-consumer-groups.sh --delete), to begin anew"
        )
    return end


def unfinished(commits: Commits, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the partitions that are not done, with their ends."""
    return {source: end for source, end in ends.items() if not is_done(commits[source], end)}


def is_done(commit: OffsetAndMetadata, end: int) -> bool:
    """Return whether all before the end is labelled and nothing is open there; a crash before leaves windows open."""
    return commit.offset >= end and snapshot.decode(commit.metadata, commit.offset).rewind_to >= end


def _locate(
    admin: KafkaAdminClient, sources: Sequence[TopicPartition], stretch: Stretch
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return each partition's first offset of a stretch, and its first one after it."""
    starts, log_ends = (_offsets(admin, sources, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
    firsts = starts if stretch.since is None else _offsets_at(admin, log_ends, stretch.since)
    ends = log_ends if stretch.until is None else _offsets_at(admin, log_ends, stretch.until)
    return firsts, {source: max(end, firsts[source]) for source, end in ends.items()}


def _offsets(
    admin: KafkaAdminClient, sources: Sequence[TopicPartition], spec: OffsetSpec | int
) -> dict[TopicPartition, int]:
    """Return each partition's offset; records after the start of an open transaction can't be read yet (KIP-98)."""
    found = admin.list_partition_offsets(dict.fromkeys(sources, spec), isolation_level=IsolationLevel.READ_COMMITTED)
    return {source: int(at.offset) for source, at in found.items()}


def _offsets_at(
    admin: KafkaAdminClient, log_ends: Mapping[TopicPartition, int], moment: datetime.datetime
) -> dict[TopicPartition, int]:
    found = _offsets(admin, list(log_ends), max(0, int(moment.timestamp() * 1000)))
    return {source: end if found[source] < 0 else min(found[source], end) for source, end in log_ends.items()}


def _first_commit(
    kind: Kind,
    source: TopicPartition,
    firsts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    outputs: int,
) -> OffsetAndMetadata:
    """Return the commit that a partition's first worker finds: nothing is open, and labels are to be read back."""
    first = snapshot.Snapshot(
        rewind_to=firsts[source],
        topic=kind.settings.output_topic,
        partition=source.partition % outputs,
        partitions=outputs,
        labels_from=-1,
        rules=kind.rules,
        end=ends[source],
    )
    return OffsetAndMetadata(firsts[source], snapshot.encode(first), -1)


def _settle(admin: KafkaAdminClient, group: str, commits: Commits) -> bool:
    """Commit for an empty group; return whether it was empty, and Kafka took the commit."""
    answers = ask_of_groups(lambda: admin.alter_group_offsets(group, dict(commits)))
    errors = {error for error in answers.values() if error is not NoError}
    for error in errors:
        if not error.retriable and error is not UnknownMemberIdError:
            raise error(f"can't commit for group {group}")
    return not errors
