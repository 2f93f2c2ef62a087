"""Which topics each kind of worker needs, and what they are to be like."""

from collections.abc import Iterable

from service.settings import KindSettings
from service.topics import TopicSpec

PARTITIONS = 8


def specs(kinds: Iterable[KindSettings], partitions: int | None) -> list[TopicSpec]:
    """List the topics of these kinds of worker.

    A dead letter is its record and some headers, so its topic takes messages that much larger than the default.
    Where `partitions` is None, nobody asked for a number: topics are created with PARTITIONS, and any other is right.
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
