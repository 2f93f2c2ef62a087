"""The topics of a kind of worker: whether they are there, and as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient

from service.doctor.findings import Finding, ok, wrong
from service.kind import Kind
from service.topic_specs import specs
from service.topics import TopicRefused, TopicState, inspect_topic


@dataclass(frozen=True, slots=True)
class KindsTopics:
    """What is known of a kind's input, output and dead-letter topic: what each is like, or why Kafka doesn't say."""

    states: list[TopicState | TopicRefused]

    @property
    def partitions(self) -> list[int | None]:
        """How many partitions each of the three has, None where it isn't there, or isn't told of."""
        return [state.partitions if isinstance(state, TopicState) else None for state in self.states]

    @property
    def there(self) -> bool:
        """Whether any of them is there."""
        return any(number is not None for number in self.partitions)

    @property
    def why_not(self) -> str:
        """Why there is nothing to look at, where none of them is there."""
        refused = [str(state) for state in self.states if isinstance(state, TopicRefused)]
        return refused[0] if refused else "none of its topics is there: `stridecast topics` creates them"


def topics_of(admin: KafkaAdminClient, kind: Kind) -> KindsTopics:
    """Ask for each topic by itself, for a user may see some and not others; raises KafkaError."""
    states: list[TopicState | TopicRefused] = []
    for spec in specs([kind.settings], None):
        try:
            states.append(inspect_topic(admin, spec))
        except TopicRefused as error:
            states.append(error)
    return KindsTopics(states)


def examine_topics(topics: KindsTopics) -> Iterator[Finding]:
    """Say what each topic is like."""
    for state in topics.states:
        if isinstance(state, TopicRefused):
            yield wrong(str(state))
        elif state.partitions is None:
            yield wrong(f"{state}; `stridecast topics` creates it")
        else:
            yield (wrong if state.warnings else ok)(str(state))
