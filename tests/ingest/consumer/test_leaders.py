import asyncio
from types import SimpleNamespace
from typing import Any

from kafka.structs import TopicPartition

from ingest.consumer.leaders import follow_leaders

FIRST, SECOND = TopicPartition("in", 0), TopicPartition("in", 1)


class Cluster:
    """Two partitions whose leaders the test sets, and what is done to find them."""

    def __init__(self, leaders: dict[TopicPartition, int]) -> None:
        self.leaders = leaders
        self.done: list[str] = []

    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        return self.leaders.get(partition)

    def request_update(self) -> None:
        self.done.append("update")


def ask(cluster: Cluster, answer: tuple[dict[TopicPartition, int], set[TopicPartition]]) -> Any:
    async def send(_: object) -> Any:
        return answer

    async def sleep(_: float) -> None:
        cluster.done.append("sleep")

    manager = SimpleNamespace(cluster=cluster, _net=SimpleNamespace(sleep=sleep))
    fetcher = SimpleNamespace(_send_list_offsets_requests=send, _manager=manager)
    follow_leaders(fetcher)
    return asyncio.run(fetcher._send_list_offsets_requests({FIRST: -2, SECOND: -2}))


def test_where_a_broker_leads_no_more_its_successor_is_looked_for_before_it_is_asked_again() -> None:
    """kafka-python asked the same one again: partitions that a worker had taken over stood still for five minutes."""
    cluster = Cluster({FIRST: 1, SECOND: 2})
    assert ask(cluster, ({FIRST: 7}, {SECOND})) == ({FIRST: 7}, {SECOND})
    assert cluster.done == ["update", "sleep"]


def test_a_partition_without_a_leader_is_asked_for_again_and_not_left_out() -> None:
    """Its offset came as None, which ended the worker, while another partition had a leader."""
    cluster = Cluster({FIRST: 1, SECOND: -1})
    assert ask(cluster, ({FIRST: 7}, set())) == ({FIRST: 7}, {SECOND})
    assert cluster.done == ["update", "sleep"]


def test_what_all_leaders_have_answered_is_not_asked_again() -> None:
    cluster = Cluster({FIRST: 1, SECOND: 2})
    assert ask(cluster, ({FIRST: 7, SECOND: 8}, set())) == ({FIRST: 7, SECOND: 8}, set())
    assert cluster.done == []
