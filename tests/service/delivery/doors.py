"""What delivery leans on, as far as its unit tests need it: partitions, labels, an assignment without a consumer."""

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from kafka.structs import ConsumerGroupMetadata, MemberState, TopicPartition
from prometheus_client import CollectorRegistry

from ingest.record_batches.bodies import Bodies, pack, unpack
from ingest.rejections import Reason
from service.delivery.ledger import Point, Segment
from service.delivery.letter import Letter
from service.delivery.partition import Output, Partition
from service.delivery.protocol import Labels, Ticket
from service.delivery.undeliverable import Undeliverable
from service.kind import Block, Stream
from service.monitoring.metrics import Families, WorkerMetrics

MEMBER = ConsumerGroupMetadata("group", 3, "member", None, MemberState.STABLE)
NOBODY = ConsumerGroupMetadata("group", -1, "", None, MemberState.UNJOINED)


class FakeAssignment(list[Partition]):
    """Holds partitions, and is a member of the group."""

    def __init__(self, *partitions: Partition) -> None:
        super().__init__(partitions)
        self.group = MEMBER
        self.undeliverable = Undeliverable()
        self.committing: list[tuple[dict[TopicPartition, Any], Callable[..., None]]] = []
        self.consumer = SimpleNamespace(
            group_metadata=lambda: self.group,
            commit_async=lambda offsets, callback: self.committing.append((offsets, callback)),
        )

    def committed(self, partition: Partition, point: Point) -> None:
        partition.ledger.commit(point)


def make_partition(number: int = 0, **settings: Any) -> Partition:
    output = Output(TopicPartition("labels", number), 8, end=100)
    settings = {"position": 0, "live_from": 0, **settings}
    return Partition(TopicPartition("texts", number), Stream(), output, **settings)


def make_metrics() -> WorkerMetrics:
    return WorkerMetrics(Families(CollectorRegistry()), "text", topics=["texts"], reasons=list(Reason), labels=[])


def make_letter(value: bytes = b"bad", timestamp_ms: int | None = None, offset: int = -1) -> Letter:
    return Letter("dead", b"", value, [], timestamp_ms, offset)


def owe(partition: Partition, count: int, position: int) -> list[Labels]:
    """Have a partition owe labels of the records before a position, and take a snapshot there; a piece a label."""
    labels = promise(partition, count)
    partition.position = position
    partition.seal()
    return labels


def promise(partition: Partition, count: int) -> list[Labels]:
    segment: Segment = partition.ledger.promise(count)
    block = Block(np.zeros((count, 1)), np.full(count, -1), None)
    ticket = Ticket(block, partition, segment, lambda _: None)
    return [Labels(pack([(b"key", b"%d" % row, [])]), ticket, row, 0.0) for row in range(count)]


def together(labels: Sequence[Labels]) -> Labels:
    """Make one piece of several that stand one behind the other in a block."""
    bodies = pack(record for piece in labels for record in unpack(piece.bodies))
    return dataclasses.replace(labels[0], bodies=bodies)


def values_in(bodies: Bodies) -> list[bytes]:
    return [value for _, value, _ in unpack(bodies)]


def values(messages: Sequence[Letter]) -> list[bytes | None]:
    return [message.value for message in messages]
