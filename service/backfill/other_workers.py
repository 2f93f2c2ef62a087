"""Other workers that write to a backfill's output: a backfill must not label what they will label."""

from collections.abc import Mapping
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.kafka_admin.groups import commits_of, describe, held_by
from service.kind import WorkerError


@dataclass(frozen=True, slots=True)
class OtherWorkers:
    """The workers of another group, which may also write to ``output_topic``."""

    group: str
    output_topic: str

    def refuse(self, admin: KafkaAdminClient, ends: Mapping[TopicPartition, int]) -> None:
        """Raise WorkerError unless they have settled all records before these ends, or don't label them.

        Raises KafkaError for what Kafka refuses.
        """
        if not ends:
            return
        try:
            found = commits_of(admin, self.group, ends)
            commits: dict[TopicPartition, OffsetAndMetadata] = {s: at for s, at in found.items() if at.offset >= 0}
            held = self._held(admin, next(iter(ends)).topic) if ends.keys() - commits.keys() else set()
        except GroupAuthorizationFailedError as error:
            raise WorkerError(
                f"this user may not see how far the workers of group {self.group} are, whose labels would be "
                "published twice: the ACL DESCRIBE on it is missing"
            ) from error
        for source, end in sorted(ends.items()):
            if source in commits:
                self._refuse_unsettled(source, commits[source], end)
            elif source.partition in held:
                raise WorkerError(
                    f"a worker of group {self.group} holds {source.topic}[{source.partition}] and has committed "
                    "nothing yet: try again when it has"
                )

    def _refuse_unsettled(self, source: TopicPartition, commit: OffsetAndMetadata, end: int) -> None:
        try:
            found_snapshot = snapshot.decode(commit.metadata, commit.offset)
        except snapshot.SnapshotError:  # an operator reset it: nothing is open, and the output topic isn't known
            found_snapshot = None
        known = isinstance(found_snapshot, snapshot.Snapshot)
        if isinstance(found_snapshot, snapshot.Snapshot) and found_snapshot.topic != self.output_topic:
            return
        settled = commit.offset if found_snapshot is None else found_snapshot.rewind_to
        if settled < end:
            raise WorkerError(
                f"workers of group {self.group} label {source.topic}[{source.partition}] from offset {settled:,} on, "
                f"into {self.output_topic}{'' if known else ' for all that is known'}, and this would label it "
                f"up to {end:,}: let them finish first, choose an earlier --until, or name a topic of its own for "
                "these labels"
            )

    def _held(self, admin: KafkaAdminClient, topic: str) -> set[int]:
        """Return the partitions that are assigned to them."""
        return set[int]().union(*(held_by(member, topic) for member in describe(admin, self.group)["members"]))
