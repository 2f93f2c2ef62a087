"""``stridecast topics``."""

from collections.abc import Iterable

from pydantic import Field

from service.security import access_to
from service.settings import KindSettings, TopicSettings
from service.topics import TopicSpec, TopicState, ensure_topics

PARTITIONS = 8


class Options(TopicSettings):
    """Create the topics of all workers that are missing, change none that exists, and say what is there."""

    partitions: int | None = Field(
        None, ge=1, le=10_000, description=f"partitions of a topic that is created; {PARTITIONS} without it"
    )


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


def run(options: Options) -> None:
    """Create and describe."""
    kinds = [group for _, group in options if isinstance(group, KindSettings)]
    states: list[TopicState] = ensure_topics(access_to(options.kafka), specs(kinds, options.partitions))
    for state in states:
        print(state)
