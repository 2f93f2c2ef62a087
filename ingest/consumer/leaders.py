"""Looks for partitions' leaders anew when offsets are asked of one that leads no more.

kafka-python (3.0.12) asks the same broker again at once, over and over until the timeout, and doesn't update its
metadata. A client that reads nothing has no other reason to, for five minutes: for so long, partitions that a worker
had just taken over stood still. And it leaves out, as if nothing were wrong, partitions that have no leader now while
others have.
"""

from collections.abc import Mapping
from typing import Any

from kafka.structs import TopicPartition

ASK_AGAIN_S = 0.1
_NO_LEADER = (None, -1)


def follow_leaders(fetcher: Any) -> None:
    """Have a consumer's fetcher update its metadata before it asks again for the offsets of partitions."""
    send, manager = fetcher._send_list_offsets_requests, fetcher._manager

    async def send_and_look(asked: Mapping[TopicPartition, Any]) -> tuple[dict[TopicPartition, Any], set[Any]]:
        cluster = manager.cluster
        leaderless = {partition for partition in asked if cluster.leader_for_partition(partition) in _NO_LEADER}
        offsets, left = await send(asked)
        left = left | leaderless
        if left:
            cluster.request_update()
            await manager._net.sleep(ASK_AGAIN_S)
        return offsets, left

    fetcher._send_list_offsets_requests = send_and_look
