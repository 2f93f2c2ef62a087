"""Has a client ask for metadata again where topics were added while a request was under way.

kafka-python (3.0.12) takes the answer to that request for an answer about all topics, and knows nothing of the new
ones until its metadata have aged; its `ClusterMetadata.set_topics` says that this is open. A consumer that subscribed
just then leads its group without knowing a partition, and nobody is given one for that time.
"""

from typing import Any


def ask_for_all_topics(cluster: Any) -> None:
    """Look after the `ClusterMetadata` of a client; one of a kafka-python that is built otherwise is left as it is."""
    if not all(hasattr(cluster, name) for name in ("_topics", "metadata_request")):
        return
    request = cluster.metadata_request
    asked: set[str] = set()

    def request_and_note() -> Any:
        asked.clear()
        asked.update(cluster._topics)
        return request()

    def ask_again(_: Any) -> None:
        if cluster._topics - asked and not cluster.need_all_topic_metadata:
            cluster.request_update()

    cluster.metadata_request = request_and_note
    cluster.add_listener(ask_again)
