"""The consumer: kafka-python's, in a group, with manual commits, and two things it doesn't give by itself.

``Hearing`` tells up to which moment a partition has been heard: when the latest fetch was sent whose high
watermark has been processed since. Silence is judged against that, never against the clock alone.
``Handover`` finishes the partitions that a rebalance takes away before it lets them go.

Both lean on parts of kafka-python that are not public: the fetcher's response handler (called with the moment
of sending), and the sleep of its IO loop. ``open_consumer`` refuses a version that lacks them.
"""

import collections
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kafka
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata, TopicPartition

log = logging.getLogger(__name__)

BOOTSTRAP_TIMEOUT_MS = 10_000
FETCH_MAX_WAIT_MS = 200
MAX_POLL_RECORDS = 4000
_REMEMBERED_FETCHES = 4096
_SETTLE_POLL_S = 0.005


class IngestError(Exception):
    """Reading from Kafka can't start; the text says why and what to do."""


class Hearing:
    """Up to which moment each partition has been heard, on the clock of ``time.monotonic``."""

    def __init__(self) -> None:
        self._fetches: dict[TopicPartition, collections.deque[tuple[float, int]]] = {}
        self._high_watermarks: dict[TopicPartition, int] = {}
        self._heard_until: dict[TopicPartition, float] = {}

    def note_response(
        self,
        partitions: Iterable[TopicPartition],
        sent_at: float,
        high_watermarks: Mapping[TopicPartition, int],
    ) -> None:
        """Take in one fetch response; called on the consumer's IO thread.

        A partition that was asked for but is absent from an incremental fetch session's response has the same
        high watermark as before (KIP-227).
        """
        for partition in partitions:
            mark = high_watermarks.get(partition, self._high_watermarks.get(partition))
            if mark is None or mark < 0:
                continue
            self._high_watermarks[partition] = mark
            fetches = self._fetches.get(partition)
            if fetches is None:
                fetches = self._fetches[partition] = collections.deque(maxlen=_REMEMBERED_FETCHES)
            fetches.append((sent_at, mark))

    def heard_until(self, partition: TopicPartition, position: int) -> float:
        """Return when the latest fetch was sent whose high watermark is at or below ``position``."""
        fetches = self._fetches.get(partition)
        while fetches and fetches[0][1] <= position:
            self._heard_until[partition] = fetches.popleft()[0]
        return self._heard_until.get(partition, float("-inf"))

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """Return the end of the log as the last response had it."""
        return self._high_watermarks.get(partition)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what was heard of partitions that have gone."""
        for partition in partitions:
            for table in (self._fetches, self._high_watermarks, self._heard_until):
                table.pop(partition, None)


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
        released: Callable[[set[TopicPartition]], None],
        deadline_s: float,
    ) -> None:
        self._assigned = assigned
        self._settled = settled
        self._snapshots = snapshots
        self._released = released
        self._deadline_s = deadline_s
        self.consumer: Any = None  # set by open_consumer

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pause the newcomers until the worker has found where to begin; nothing may be fetched before."""
        self.consumer.pause(*assigned)
        self._assigned(set(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for what is in flight, commit it while we still may, then let go."""
        waited = 0.0
        while not self._settled(revoked) and waited < self._deadline_s:
            await self.consumer._net.sleep(_SETTLE_POLL_S)
            waited += _SETTLE_POLL_S
        try:
            offsets = self._snapshots(revoked)
            if offsets:
                await self.consumer.commit_async(offsets)
        except KafkaError as error:
            log.warning("commit before giving up %s failed: %s", _names(revoked), error)
        finally:
            self._released(revoked)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """Let go without a commit: the group has already given them to someone else."""
        log.warning("lost %s: another worker has them", _names(lost))
        self._released(lost)


def open_consumer(
    topic: str, handover: Handover, hearing: Hearing, *, bootstrap_servers: str, group_id: str, client_id: str
) -> kafka.KafkaConsumer:
    """Subscribe to ``topic`` in a group, without automatic commits, from the earliest record.

    Raises IngestError when no broker answers or kafka-python is not a version that this works with.
    """
    try:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap_servers.split(","),
            group_id=group_id,
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            max_poll_records=MAX_POLL_RECORDS,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            metrics_enabled=False,
        )
    except KafkaTimeoutError:
        raise IngestError(f"no Kafka broker answers at {bootstrap_servers}: is it running?") from None
    except KafkaError as error:
        raise IngestError(f"can't reach Kafka at {bootstrap_servers}: {error}") from None
    handover.consumer = consumer
    _listen(consumer, hearing)
    consumer.subscribe([topic], listener=handover)
    return consumer


def fetch_position(consumer: kafka.KafkaConsumer, partition: TopicPartition) -> int | None:
    """Return the next offset that ``poll`` will give, beyond control records; None while it isn't known.

    Unlike ``KafkaConsumer.position`` it never asks the broker.
    """
    state = consumer._subscription.assignment.get(partition)
    return None if state is None or state.position is None else int(state.position.offset)


def _listen(consumer: kafka.KafkaConsumer, hearing: Hearing) -> None:
    fetcher = consumer._fetcher
    handle = getattr(fetcher, "_handle_fetch_response", None)
    if handle is None:
        raise IngestError(
            f"kafka-python {kafka.__version__} has no fetch response handler to listen to; "
            "install the version in constraints.txt"
        )

    def handle_and_note(
        node_id: int, fetch_offsets: Mapping[TopicPartition, int], sent_at: float, response: Any
    ) -> None:
        high_watermarks = {
            TopicPartition(topic.topic, partition.partition_index): partition.high_watermark
            for topic in response.responses
            for partition in topic.partitions
        }
        handle(node_id, fetch_offsets, sent_at, response)
        if response.error_code == 0:
            hearing.note_response(fetch_offsets, sent_at, high_watermarks)

    fetcher._handle_fetch_response = handle_and_note


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(sorted(f"{partition.topic}[{partition.partition}]" for partition in partitions))
