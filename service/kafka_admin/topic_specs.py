"""The topics that each kind of worker needs, with their configuration."""

from collections.abc import Iterable

from service.configuration.settings import KindSettings
from service.kafka_admin.topics import TopicSpec

PARTITIONS = 8


def specs(kinds: Iterable[KindSettings], partitions: int | None) -> list[TopicSpec]:
    """Return the specifications of the topics of these kinds of worker.

    A dead letter is its record and some headers, so its topic takes messages that are larger than the default by so
    much. If `partitions` is None, topics are created with PARTITIONS, and any other number is accepted.
    """
    count, any_number = partitions or PARTITIONS, partitions is None
    larger = {"max.message.bytes": str(2 * 1024 * 1024)}
    return [
        spec
        for kind in kinds
        for spec in (
            TopicSpec(kind.input_topic, count, any_number=any_number, may_compact=False),
            TopicSpec(kind.output_topic, count, labels_of=kind.input_topic, any_number=any_number),
            TopicSpec(kind.dead_letter_topic, 1, config=larger, any_number=True, may_compact=False),
        )
    ]
