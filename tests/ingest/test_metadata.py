import kafka.errors
import pytest
from kafka.cluster import ClusterMetadata
from kafka.protocol.metadata import MetadataResponse

from ingest.metadata import ask_for_all_topics

VERSION = 8


def answer(*topics: str) -> MetadataResponse:
    topic, broker = MetadataResponse.MetadataResponseTopic, MetadataResponse.MetadataResponseBroker
    partition = topic.MetadataResponsePartition(
        error_code=kafka.errors.NoError.errno,
        partition_index=0,
        leader_id=1,
        leader_epoch=0,
        replica_nodes=[1],
        isr_nodes=[1],
        offline_replicas=[],
    )
    response = MetadataResponse(
        throttle_time_ms=0,
        brokers=[broker(node_id=1, host="127.0.0.1", port=9092, rack=None)],
        cluster_id="made up",
        controller_id=1,
        topics=[
            topic(error_code=kafka.errors.NoError.errno, name=name, is_internal=False, partitions=[partition])
            for name in topics
        ],
    )
    return MetadataResponse.decode(response.encode(VERSION), VERSION)


def cluster_asked_before_subscribing(*before: str) -> ClusterMetadata:
    """One whose request for the topics `before` is under way when somebody subscribes to another."""
    cluster = ClusterMetadata()
    ask_for_all_topics(cluster)
    cluster.set_topics(before)
    cluster.metadata_request()
    cluster.set_topics([*before, "accelerometer"])
    return cluster


@pytest.mark.parametrize("before", [(), ("texts",)])
def test_topics_that_an_answer_could_not_be_about_are_asked_for_again(before: tuple[str, ...]) -> None:
    """A reader got nothing for 30 s, once in thousands: it had subscribed while the client asked for no topic yet."""
    cluster = cluster_asked_before_subscribing(*before)
    cluster.update_metadata(answer(*before))
    assert cluster.need_update
    assert cluster.partitions_for_topic("accelerometer") is None

    asked = {topic.name for topic in cluster.metadata_request().topics}
    assert asked == {*before, "accelerometer"}
    cluster.update_metadata(answer(*asked))
    assert not cluster.need_update
    assert cluster.partitions_for_topic("accelerometer") == {0}


def test_a_topic_that_does_not_exist_is_not_asked_for_on_and_on() -> None:
    cluster = ClusterMetadata()
    ask_for_all_topics(cluster)
    cluster.set_topics(["accelerometer", "nobody-made-this"])
    cluster.metadata_request()
    cluster.update_metadata(answer("accelerometer"))
    assert not cluster.need_update
