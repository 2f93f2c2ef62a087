"""Who reads a topic, how far they are, and what a worker would find that takes over what they committed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError, KafkaError
from kafka.protocol.consumer import OffsetSpec
from kafka.structs import OffsetAndMetadata, TopicPartition

from service.delivery.recovery import Place, plan
from service.doctor.findings import Finding, counted, listed, note, ok, wrong
from service.kind import Kind

# A broker that has never had a group makes the topic of their offsets when it is asked for the first one.
RETRY_S = 10.0


def examine_group(
    admin: KafkaAdminClient, group_id: str, kind: Kind, partitions: int, outputs: int
) -> Iterator[Finding]:
    """Look at who is in the group of a kind's input topic, at its lag and its commits; raises KafkaError.

    `partitions` and `outputs` are how many partitions the input and the output have.
    """
    sources = [TopicPartition(kind.settings.input_topic, number) for number in range(partitions)]
    try:
        group = _described(admin, group_id)
    except GroupAuthorizationFailedError:
        yield wrong(f"this user may not see group {group_id}: the ACL DESCRIBE on it is missing")
        return
    yield _members(group, sources)
    committed: Mapping[TopicPartition, OffsetAndMetadata] = admin.list_group_offsets({group_id: sources})[group_id]
    starts = admin.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(sources, OffsetSpec.LATEST))
    commits = {source: (at.offset, at.metadata) for source, at in committed.items() if at.offset >= 0}
    places = {
        source: Place(
            commits.get(source),
            starts[source].offset,
            ends[source].offset,
            TopicPartition(kind.settings.output_topic, source.partition % outputs),
            outputs,
            kind.rules,
        )
        for source in sources
    }
    yield _lag(places)
    yield from _surprises(places)


def _described(admin: KafkaAdminClient, group_id: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + RETRY_S
    while True:
        try:
            group: Mapping[str, Any] = admin.describe_groups([group_id])[group_id]
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return group


def _members(group: Mapping[str, Any], sources: Sequence[TopicPartition]) -> Finding:
    topic = sources[0].topic
    held = [some for member in group["members"] if (some := _held_by(member, topic))]
    nobodys = [source.partition for source in sources if not any(source.partition in some for some in held)]
    if group["error"] and group["group_state"] != "Dead":  # which is what one is called that isn't there
        return wrong(f"Kafka says nothing of group {group['group_id']}: {group['error']}")
    if group["group_state"] in ("PreparingRebalance", "CompletingRebalance"):
        return note(f"group {group['group_id']} is sharing its partitions out just now: ask again in a moment")
    if not held:
        return note(f"no worker of group {group['group_id']} reads {topic} now")
    if nobodys:
        return wrong(
            f"nobody holds {_named(nobodys)} of {topic}, while others are held: what do the workers' logs say?"
        )
    return ok(f"group {group['group_id']}: {counted(len(sources), 'partition')} held by {counted(len(held), 'worker')}")


def _held_by(member: Mapping[str, Any], topic: str) -> set[int]:
    assigned = (member["member_assignment"] or {}).get("assigned_partitions") or []
    return {number for each in assigned if each["topic"] == topic for number in each["partitions"]}


def _lag(places: Mapping[TopicPartition, Place]) -> Finding:
    behind = {source.partition: _behind(place) for source, place in places.items()}
    total = counted(sum(behind.values()), "record")
    if all(place.committed is None for place in places.values()):
        return note(f"nothing has been committed: a worker will begin with the first of {total}")
    worst = max(behind, key=behind.__getitem__)
    where = f", {behind[worst]:,} of them in partition {worst}" if behind[worst] else ""
    return ok(f"{total} behind what is committed{where}")


def _behind(place: Place) -> int:
    position = place.log_start if place.committed is None else place.committed[0]
    return max(0, place.log_end - max(place.log_start, position))


def _surprises(places: Mapping[TopicPartition, Place]) -> Iterator[Finding]:
    """Tell what a worker would warn of if it were given these partitions now; of what differs in numbers alone, one."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for source, place in places.items():
        for warning in plan(place).warnings:
            alike.setdefault(re.sub(r"\d+", "", warning), []).append((source.partition, warning))
    for warnings in alike.values():
        numbers, texts = zip(*warnings, strict=True)
        yield note(f"whoever takes over {_named(numbers)} will say: {texts[0]}")


def _named(partitions: Sequence[int]) -> str:
    return f"partition{'s' * (len(partitions) > 1)} {listed(partitions)}"
