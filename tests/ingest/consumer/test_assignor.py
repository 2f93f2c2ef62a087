from kafka.structs import TopicPartition

from ingest.consumer.assignor import HonestAssignor


def claimed(assignor: HonestAssignor) -> set[tuple[str, int]]:
    owned = assignor.metadata(["in"]).owned_partitions
    return {(topic.topic, partition) for topic in owned for partition in topic.partitions}


def test_a_member_claims_what_it_holds_and_nothing_that_it_has_lost() -> None:
    """A worker that was frozen claimed what it had lost, got it at once, and published what its owner published."""
    assignor = HonestAssignor()
    assert assignor.name == "cooperative-sticky"
    assert claimed(assignor) == set()
    assignor.held = lambda: {TopicPartition("in", 3), TopicPartition("in", 5)}
    assert claimed(assignor) == {("in", 3), ("in", 5)}
    assignor.held = set
    assert claimed(assignor) == set()
