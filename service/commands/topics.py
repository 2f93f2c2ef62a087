"""``stridecast topics``."""

from pydantic import Field

from service.settings import TopicSettings
from service.topics import TopicSpec, TopicState, ensure_topics


class Options(TopicSettings):
    """Create the topics that are missing, change none that exists, and say what is there."""

    partitions: int = Field(8, ge=1, le=10_000, description="partitions of a topic that is created")


def specs(settings: TopicSettings, partitions: int) -> list[TopicSpec]:
    """List the topics of the activity worker.

    A dead letter is its record and some headers, so its topic takes messages that much larger than the default.
    """
    activity = settings.activity
    return [
        TopicSpec(activity.input_topic, partitions),
        TopicSpec(activity.output_topic, partitions, labels_of=activity.input_topic),
        TopicSpec(activity.dead_letter_topic, 1, config={"max.message.bytes": str(2 * 1024 * 1024)}),
    ]


def run(options: Options) -> None:
    """Create and describe."""
    states: list[TopicState] = ensure_topics(options.kafka.bootstrap_servers, specs(options, options.partitions))
    for state in states:
        print(state)
