"""Checks a consumer group: its members, its lag, and what a worker that takes over its commits would warn of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import TopicPartition

from service.delivery.recovery_plan import PartitionState, plan
from service.doctor.findings import Finding, counted, listed, listed_partitions, note, ok, wrong
from service.kafka_admin.groups import commits_of, describe, held_by
from service.kind import Kind

WORKERS = "stridecast-"
"""The prefix of workers' client ids."""


def examine_group(
    admin: KafkaAdminClient, group_id: str, kind: Kind, partitions: int, outputs: int
) -> Iterator[Finding]:
    """Check the members, lag and commits of the group of a kind's input topic; raises KafkaError.

    `partitions` and `outputs` are how many partitions the input and the output have.
    """
    sources = [TopicPartition(kind.settings.input_topic, number) for number in range(partitions)]
    try:
        group = describe(admin, group_id)
    except GroupAuthorizationFailedError:
        yield wrong(f"this user may not see group {group_id}: the ACL DESCRIBE on it is missing")
        return
    held = [some for member in group["members"] if (some := held_by(member, sources[0].topic))]
    yield _members(group, held, sources)
    committed = commits_of(admin, group_id, sources)
    starts = admin.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.LATEST))
    commits = {source: (at.offset, at.metadata) for source, at in committed.items() if at.offset >= 0}
    states = {
        source: PartitionState(
            commits.get(source),
            starts[source].offset,
            ends[source].offset,
            TopicPartition(kind.settings.output_topic, source.partition % outputs),
            outputs,
            kind.rules,
        )
        for source in sources
    }
    yield _lag(states, anybody=bool(held))
    yield from _open_transactions(admin, states)
    yield from _plan_warnings(states)


def is_unused(admin: KafkaAdminClient, group_id: str, kind: Kind, partitions: int, outputs: int) -> bool:
    """Tell whether a kind's input and output are empty, and nobody of the group reads or has read; raises KafkaError.

    `partitions` and `outputs` are how many partitions the input and the output have.
    """
    topic = kind.settings.input_topic
    sources = [TopicPartition(topic, number) for number in range(partitions)]
    if any(held_by(member, topic) for member in describe(admin, group_id)["members"]):
        return False
    if any(at.offset >= 0 for at in commits_of(admin, group_id, sources).values()):
        return False
    both = [*sources, *(TopicPartition(kind.settings.output_topic, number) for number in range(outputs))]
    starts = admin.list_partition_offsets(dict.fromkeys(both, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(both, OffsetSpec.LATEST))
    return all(starts[each].offset == ends[each].offset for each in both)


def _members(group: Mapping[str, Any], held: Sequence[set[int]], sources: Sequence[TopicPartition]) -> Finding:
    topic = sources[0].topic
    strangers = [member["client_id"] for member in group["members"] if _is_stranger(member, topic)]
    if strangers:
        return wrong(
            f"{listed(strangers)} of group {group['group_id']} reads {topic}, and is no worker: give it a group of its "
            "own, else workers don't see its partitions"
        )
    nobodys = [source.partition for source in sources if not any(source.partition in some for some in held)]
    if group["error"] and group["group_state"] != "Dead":  # the state of a group that doesn't exist
        return wrong(f"Kafka says nothing of group {group['group_id']}: {group['error']}")
    if group["group_state"] in ("PreparingRebalance", "CompletingRebalance"):
        return note(f"group {group['group_id']} is sharing its partitions out just now: ask again in a moment")
    if not held:
        return note(f"no worker of group {group['group_id']} reads {topic} now")
    if nobodys:
        return wrong(
            f"nobody holds {listed_partitions(nobodys)} of {topic}, while others are held: see the workers' logs"
        )
    return ok(f"group {group['group_id']}: {counted(len(sources), 'partition')} held by {counted(len(held), 'worker')}")


def _is_stranger(member: Mapping[str, Any], topic: str) -> bool:
    return bool(held_by(member, topic)) and not member["client_id"].startswith(WORKERS)


def _lag(states: Mapping[TopicPartition, PartitionState], *, anybody: bool) -> Finding:
    behind = {source.partition: _behind(state) for source, state in states.items()}
    total = counted(sum(behind.values()), "record")
    new = [source.partition for source, state in states.items() if state.committed is None]
    if len(new) == len(states):
        if not any(behind.values()):
            return note("nothing has been committed: there is nothing to read yet")
        return note(f"nothing has been committed: a worker will begin with the first of {total}")
    worst = max(behind, key=behind.__getitem__)
    where = f", {behind[worst]:,} of them in partition {worst}" if behind[worst] else ""
    never = [number for number in new if behind[number]]
    unread = f"; nothing has been committed of {listed_partitions(never)}" if never else ""
    return (note if never or (behind[worst] and not anybody) else ok)(
        f"{total} behind what is committed{where}{unread}"
    )


def _behind(state: PartitionState) -> int:
    position = state.log_start if state.committed is None else state.committed[0]
    return max(0, state.log_end - max(state.log_start, position))


def _open_transactions(admin: KafkaAdminClient, states: Mapping[TopicPartition, PartitionState]) -> Iterator[Finding]:
    """Report records that no worker gets yet, because a producer's transaction before them is open (KIP-98)."""
    latest = dict.fromkeys(states, OffsetSpec.LATEST)
    stable = admin.list_partition_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED)
    waiting = {
        source.partition: state.log_end - stable[source].offset
        for source, state in states.items()
        if state.log_end > stable[source].offset
    }
    if waiting:
        yield note(
            f"{listed_partitions(list(waiting))}: a transaction is open, and no worker is given the "
            f"{counted(sum(waiting.values()), 'record')} from its first on. If that stays so, a producer hangs "
            "(kafka-transactions.sh find-hanging)"
        )


def _plan_warnings(states: Mapping[TopicPartition, PartitionState]) -> Iterator[Finding]:
    """Report what a worker would warn of if it got these partitions now; once if only numbers differ."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for source, state in states.items():
        for warning in plan(state).warnings:
            alike.setdefault(re.sub(r"\d+", "", warning), []).append((source.partition, warning))
    for warnings in alike.values():
        numbers, texts = zip(*warnings, strict=True)
        yield note(f"whoever takes over {listed_partitions(numbers)} will say: {texts[0]}")
