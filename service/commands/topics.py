"""``stridecast topics``."""

from pydantic import Field

from service.settings import TopicSettings
from service.topics import TopicSpec, TopicState, ensure_topics

PARTITIONS = 8


class Options(TopicSettings):
    """Create the topics that are missing, change none that exists, and say what is there."""

    partitions: int | None = Field(
        None, ge=1, le=10_000, description=f"partitions of a topic that is created; {PARTITIONS} without it"
    )


def specs(settings: TopicSettings, partitions: int | None) -> list[TopicSpec]:
    """List the topics of the activity worker.

    A dead letter is its record and some headers, so its topic takes messages that much larger than the default.
    Where `partitions` is None, nobody asked for a number: topics are created with PARTITIONS, and any other is right.
    """
    activity = settings.activity
    count, any_number = partitions or PARTITIONS, partitions is None
    return [
        TopicSpec(activity.input_topic, count, any_number=any_number),
        TopicSpec(activity.output_topic, count, labels_of=activity.input_topic, any_number=any_number),
        TopicSpec(activity.dead_letter_topic, 1, config={"max.message.bytes": str(2 * 1024 * 1024)}, any_number=True),
    ]


def run(options: Options) -> None:
    """Create and describe."""
    states: list[TopicState] = ensure_topics(options.kafka.bootstrap_servers, specs(options, options.partitions))
    for state in states:
        print(state)
