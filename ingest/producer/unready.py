"""Keeps a transaction's request whose coordinator can't be reached: it goes to the next one.

kafka-python's sender (3.0.12) takes a request off its queue and waits until the coordinator's connection is ready. If
it isn't, the request is put back and the coordinator looked for again. But where the wait fails at once, as it does
where a broker has just gone away, it raises, and the request isn't put back. Nobody sends it then: the transaction
hung until its deadline, and all partitions were recovered. In a restart of all brokers one after the other, that
happened to every worker.
"""

from typing import Any

from kafka.errors import KafkaError
from kafka.future import Future

# How long to wait before the coordinator is looked for again. Until others lead, a dead broker is still named.
LOOK_AGAIN_MS = 50


def keep_requests(client: Any) -> None:
    """Have ``await_ready`` of a producer's client say that a node isn't ready instead of raising."""
    await_ready = client.await_ready

    def is_ready(node_id: Any, timeout_ms: float) -> bool:
        try:
            return bool(await_ready(node_id, timeout_ms=timeout_ms))
        except KafkaError:
            client.poll(timeout_ms=LOOK_AGAIN_MS, future=Future())  # what is in flight goes on meanwhile
            return False

    client.await_ready = is_ready
