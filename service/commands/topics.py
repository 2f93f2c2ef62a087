"""``stridecast topics``."""

from pydantic import Field

from service.configuration.security import access_to
from service.configuration.settings import LABELLING_SETTINGS, MEMBER_SETTINGS, TopicSettings
from service.kafka_admin.topic_specs import PARTITIONS, specs
from service.kafka_admin.topics import TopicState, ensure_topics


class Options(TopicSettings):
    """Create the topics of all workers that are missing, change none that exists, and say what is there."""

    unused = (*MEMBER_SETTINGS, *LABELLING_SETTINGS, "text.max_bytes")

    partitions: int | None = Field(
        None, ge=1, le=10_000, description=f"partitions of a topic that is created; {PARTITIONS} without it"
    )


def run(options: Options) -> None:
    """Create and describe."""
    states: list[TopicState] = ensure_topics(access_to(options.kafka), specs(options.kinds, options.partitions))
    for state in states:
        print(state)
