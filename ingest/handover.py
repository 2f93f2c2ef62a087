"""Partitions that come and go: those that a rebalance takes away are finished before they are let go.

It leans on the sleep of kafka-python's IO loop, and on the commit that is done when it is.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

log = logging.getLogger(__name__)

_SETTLE_POLL_S = 0.005
_LAST_COMMIT_TIMEOUT_MS = 3_000
_LET_GO_S = 2.0


class Handover(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """What happens when partitions come and go.

    The callbacks run on the consumer's IO thread while the worker's own thread waits in ``poll`` (only ``poll``
    and ``close`` drive a rebalance), so what they touch is not touched by anyone else.
    """

    def __init__(
        self,
        *,
        assigned: Callable[[set[TopicPartition]], None],
        settled: Callable[[set[TopicPartition]], bool],
        snapshots: Callable[[set[TopicPartition]], dict[TopicPartition, OffsetAndMetadata]],
        committed: Callable[[dict[TopicPartition, OffsetAndMetadata], object], None],
        released: Callable[[set[TopicPartition]], None],
        let_go: Callable[[set[TopicPartition]], bool],
        clock: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self._assigned = assigned
        self._settled = settled
        self._snapshots = snapshots
        self._committed = committed
        self._released = released
        self._let_go = let_go
        self._clock = clock
        self.deadline_s = deadline_s
        self.consumer: Any = None  # set by open_consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause the newcomers until the worker has found where to begin; nothing may be fetched before.

        They are given a position, whatever it is: each poll would ask for their commits first, and where a dead
        worker's transaction may yet change one, wait for its whole time, and the other partitions with it.
        """
        self.consumer.pause(*assigned)
        for partition in assigned:
            self.consumer.seek(partition, 0)
        self._assigned(set(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for what is in flight, commit it while we still may, then let go."""
        try:
            deadline = self._clock() + self.deadline_s
            while not self._settled(revoked) and self._clock() < deadline:
                await self.consumer._net.sleep(_SETTLE_POLL_S)
            await self._commit(self._snapshots(revoked))
        finally:  # whatever failed, another worker has them next
            self._released(revoked)
        await self._await_letting_go(revoked)

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit, and be done only when that is.

        ``commit_async`` won't do: where the coordinator has first to be found, its future is done with the finding,
        and the commit that follows could overtake those of the partition's next owner.
        """
        if not offsets:
            return
        try:
            await self.consumer._coordinator._commit_offsets_sync_async(offsets, _LAST_COMMIT_TIMEOUT_MS)
        except KafkaError as error:
            self._committed(offsets, error)
        else:
            self._committed(offsets, None)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Let go without a commit: the group has already given them to someone else."""
        log.warning("lost %s: another worker has them", _names(lost))
        self._released(lost)
        await self._await_letting_go(lost)

    async def _await_letting_go(self, gone: set[TopicPartition]) -> None:
        """Wait until no open transaction holds anything of what is gone: what could not be finished is dropped."""
        deadline = self._clock() + min(self.deadline_s, _LET_GO_S)
        while not self._let_go(gone) and self._clock() < deadline:
            await self.consumer._net.sleep(_SETTLE_POLL_S)


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted(f"{partition.topic}[{partition.partition}]" for partition in partitions))
