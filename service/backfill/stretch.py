"""Which records a backfill is about: settled once, in its group's commits, for all who take part and for those after.

The commit of each partition says where it ends. Whoever comes later, or takes a partition over, ends there too: one
that ended elsewhere would close windows of which more readings come.
"""

import datetime
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import NoError, UnknownMemberIdError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.backfill.other_workers import OtherWorkers
from service.delivery.recovery_plan import committed_end
from service.groups import Commits, ask_of_groups, commits_of
from service.kind import Kind, WorkerError
from service.settings import KindSettings

# A member that died is in its group for a session's time.
SETTLE_WITHIN_S = 60.0
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the first record that is as late as ``since`` to the first as late as ``until``, by their timestamps."""

    since: datetime.datetime | None
    until: datetime.datetime | None


def group_of(base: str, settings: KindSettings, bundle_digest: str, stretch: Stretch) -> str:
    """Name the group of a backfill: whoever does the very same shares its partitions, or goes on with it later."""
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
    """Settle where each partition begins and ends, unless that is settled and not done yet; return the ends.

    Raises WorkerError where other workers have the same to label, KafkaError for what Kafka refuses.
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
        others.refuse(admin, {source: end for source, end in ends.items() if firsts[source] < end})
        if _settle(admin, group, {source: _first_commit(kind, source, firsts, ends, outputs) for source in sources}):
            return ends
        if time.monotonic() > deadline:
            raise WorkerError(f"group {group} has done the same before, and somebody is still in it: try again")
        time.sleep(RETRY_S)


def require_end(group: str, source: TopicPartition, commit: OffsetAndMetadata) -> int:
    """Return where a commit says that its partition ends; raises WorkerError where it doesn't."""
    end = committed_end(commit.offset, commit.metadata)
    if end is None:
        raise WorkerError(
            f"the commit of group {group} for {source.topic}[{source.partition}] was reset, or is none of a backfill: "
            "delete the group (kafka-consumer-groups.sh --delete), to begin anew"
        )
    return end


def unfinished(commits: Commits, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the partitions, with their ends, that are not done."""
    return {source: end for source, end in ends.items() if not is_done(commits[source], end)}


def is_done(commit: OffsetAndMetadata, end: int) -> bool:
    """Tell whether all before the end has been labelled, and nothing is open there; who dies before leaves it open."""
    return commit.offset >= end and snapshot.decode(commit.metadata, commit.offset).rewind_to >= end


def _locate(
    admin: KafkaAdminClient, sources: Sequence[TopicPartition], stretch: Stretch
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return the offsets of the first records of a stretch, and of the first ones behind it."""
    starts, log_ends = (_offsets(admin, sources, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
    firsts = starts if stretch.since is None else _offsets_at(admin, log_ends, stretch.since)
    ends = log_ends if stretch.until is None else _offsets_at(admin, log_ends, stretch.until)
    return firsts, {source: max(end, firsts[source]) for source, end in ends.items()}


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


def _first_commit(
    kind: Kind,
    source: TopicPartition,
    firsts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    outputs: int,
) -> OffsetAndMetadata:
    """Write what a worker finds who takes a partition first: nothing is open, and labels are to be read back."""
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
    """Commit for a group that is empty; tell whether it was, and Kafka could."""
    answers = ask_of_groups(lambda: admin.alter_group_offsets(group, dict(commits)))
    errors = {error for error in answers.values() if error is not NoError}
    for error in errors:
        if not error.retriable and error is not UnknownMemberIdError:
            raise error(f"can't commit for group {group}")
    return not errors
