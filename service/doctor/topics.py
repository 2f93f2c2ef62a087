"""Checks the topics of a kind of worker: whether they exist, and are as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient

from service.doctor.findings import Finding, ok, wrong
from service.kafka_admin.topic_specs import specs
from service.kafka_admin.topics import TopicRefused, TopicState, inspect_topic
from service.kind import Kind


@dataclass(frozen=True, slots=True)
class KindsTopics:
    """The state of a kind's input, output and dead-letter topic, or why Kafka doesn't show it."""

    states: list[TopicState | TopicRefused]

    @property
    def partitions(self) -> list[int | None]:
        """How many partitions each of the three has; None if it doesn't exist, or isn't shown."""
        return [state.partitions if isinstance(state, TopicState) else None for state in self.states]

    @property
    def there(self) -> bool:
        """Whether any of them exists."""
        return any(number is not None for number in self.partitions)

    @property
    def why_not(self) -> str:
        """Why there is nothing to check, if none of them exists."""
        refused = [str(state) for state in self.states if isinstance(state, TopicRefused)]
        missing = (
            "none of its topics is there: `stridecast topics`, with the same flags for Kafka and topics, creates them"
        )
        return refused[0] if refused else missing


def topics_of(admin: KafkaAdminClient, kind: Kind) -> KindsTopics:
    """Ask for each topic separately, because a user may see some and not others; raises KafkaError."""
    states: list[TopicState | TopicRefused] = []
    for spec in specs([kind.settings], None):
        try:
            states.append(inspect_topic(admin, spec))
        except TopicRefused as error:
            states.append(error)
    return KindsTopics(states)


def examine_topics(topics: KindsTopics) -> Iterator[Finding]:
    """Report the state of each topic."""
    for state in topics.states:
        if isinstance(state, TopicRefused):
            yield wrong(str(state))
        elif state.partitions is None:
            yield wrong(f"{state}; `stridecast topics`, with the same flags for Kafka and topics, creates it")
        else:
            yield (wrong if state.warnings else ok)(str(state))
