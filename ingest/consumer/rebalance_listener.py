"""What a rebalance does: new partitions are paused, and revoked ones are finished and committed before they go.

It relies on two parts of kafka-python that are not public: the sleep of its IO loop, and a commit that returns only
when it is done.
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
_IN_FLIGHT_S = 2.0


class RebalanceListener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Handles the assignment, revocation and loss of partitions.

    The callbacks run on the consumer's IO thread while the worker's thread waits in ``poll`` (only ``poll`` and
    ``close`` drive a rebalance). So nobody else touches what they touch.
    """

    def __init__(
        self,
        *,
        assigned: Callable[[set[TopicPartition]], None],
        settled: Callable[[set[TopicPartition]], bool],
        snapshots: Callable[[set[TopicPartition]], dict[TopicPartition, OffsetAndMetadata]],
        committed: Callable[[dict[TopicPartition, OffsetAndMetadata], object], None],
        released: Callable[[set[TopicPartition]], None],
        nothing_in_flight: Callable[[set[TopicPartition]], bool],
        clock: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self._assigned = assigned
        self._settled = settled
        self._snapshots = snapshots
        self._committed = committed
        self._released = released
        self._nothing_in_flight = nothing_in_flight
        self._clock = clock
        self.deadline_s = deadline_s
        self.consumer: Any = None  # set by open_consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause new partitions until the worker has found where to start; nothing may be fetched before.

        They are given a position, no matter which. Without one, each poll would ask for their commits first. Where a
        dead worker's open transaction may still change a commit, that would take the whole poll, and the other
        partitions would wait, too.
        """
        self.consumer.pause(*assigned)
        for partition in assigned:
            self.consumer.seek(partition, 0)
        self._assigned(set(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for what is in flight, commit it while that is still allowed, then release the partitions."""
        try:
            deadline = self._clock() + self.deadline_s
            while not self._settled(revoked) and self._clock() < deadline:
                await self.consumer._net.sleep(_SETTLE_POLL_S)
            await self._commit(self._snapshots(revoked))
        finally:  # whatever failed, another worker has them next
            self._released(revoked)
        await self._await_nothing_in_flight(revoked)

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit, and return only when that is done.

        ``commit_async`` won't do: if the coordinator has to be found first, its future is done once it is found, and
        the commit that follows could arrive after those of the partition's next owner.
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
        """Release the partitions without a commit: the group has already given them to another member."""
        log.warning("lost %s: the group has gone on without this worker, which joins it anew", _names(lost))
        self._released(lost)
        await self._await_nothing_in_flight(lost)

    async def _await_nothing_in_flight(self, gone: set[TopicPartition]) -> None:
        """Wait until nothing of these partitions is in an open transaction; what could not be finished is dropped."""
        deadline = self._clock() + min(self.deadline_s, _IN_FLIGHT_S)
        while not self._nothing_in_flight(gone) and self._clock() < deadline:
            await self.consumer._net.sleep(_SETTLE_POLL_S)


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted(f"{partition.topic}[{partition.partition}]" for partition in partitions))
