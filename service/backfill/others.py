"""Other workers that write to a backfill's output: what they have still to label, nobody else may."""

from collections.abc import Mapping
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError
from kafka.structs import OffsetAndMetadata, TopicPartition

from ingest import snapshot
from service.kind import WorkerError
from service.members import describe, held_by
from service.topics import ask_of_groups


@dataclass(frozen=True, slots=True)
class Others:
    """The workers of a group, which may write to ``output_topic``, too."""

    group: str
    output_topic: str

    def refuse(self, admin: KafkaAdminClient, ends: Mapping[TopicPartition, int]) -> None:
        """Raise WorkerError unless all that lies before these ends is settled for them, or none of their business.

        Raises KafkaError for what Kafka refuses.
        """
        try:
            found = ask_of_groups(lambda: admin.list_group_offsets({self.group: list(ends)})[self.group])
            commits: dict[TopicPartition, OffsetAndMetadata] = {s: at for s, at in found.items() if at.offset >= 0}
            unsaid = not commits and self._are_there(admin, next(iter(ends)).topic)
        except GroupAuthorizationFailedError as error:
            raise WorkerError(
                f"this user may not see how far the workers of group {self.group} are, whose labels would be said "
                "twice: the ACL DESCRIBE on it is missing"
            ) from error
        if unsaid:
            raise WorkerError(
                f"workers of group {self.group} are there and have committed nothing yet: try again when they have"
            )
        for source, commit in sorted(commits.items()):
            settled = self._settled(commit)
            if settled < ends[source]:
                raise WorkerError(
                    f"workers of group {self.group} label {source.topic}[{source.partition}] from offset {settled:,} "
                    f"on, into {self.output_topic} for all that is known, and this would label it up to "
                    f"{ends[source]:,}: choose an earlier --until, or a topic of its own for these labels"
                )

    def _settled(self, commit: OffsetAndMetadata) -> int:
        """Return the record before which they have nothing more to label in this output."""
        try:
            said = snapshot.decode(commit.metadata, commit.offset)
        except snapshot.SnapshotError:
            return int(commit.offset)
        if isinstance(said, snapshot.Snapshot) and said.topic != self.output_topic:
            return 2**63 - 1
        return said.rewind_to

    def _are_there(self, admin: KafkaAdminClient, topic: str) -> bool:
        return any(held_by(member, topic) for member in describe(admin, self.group)["members"])
