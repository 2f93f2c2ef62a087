"""Runs all checks for each kind of worker: its topics, its group, and the latest records of its input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from ingest.client.access import Servers, remedy
from ingest.consumer.latest import Latest, latest_records
from ingest.messages.texts import decode_texts
from service.activity_worker import activity_kind, decoder, windower
from service.configuration.security import access_to
from service.configuration.settings import ActivitySettings, TextSettings, TopicSettings
from service.doctor.devices import examine_devices
from service.doctor.findings import Finding, Verdict, counted, note, ok, wrong
from service.doctor.group import examine_group, is_unused
from service.doctor.records import examine_records
from service.doctor.topics import KindsTopics, examine_topics, topics_of
from service.kafka_admin.topics import admin_client, count_brokers
from service.kind import Kind
from service.text_worker import text_kind

Look = Callable[[Latest], Iterator[Finding]]


def examinations(settings: TopicSettings, records: int) -> Iterator[tuple[str, Iterable[Finding]]]:
    """Yield the name of each check with its findings, which are computed lazily.

    Reads so many `records` of each input topic. Raises TopicError.
    """
    looks: list[tuple[Kind, Look]] = [
        (activity_kind(settings.activity), lambda latest: _look_at_readings(settings.activity, latest)),
        (text_kind(settings.text), lambda latest: _look_at_texts(settings.text, latest)),
    ]
    servers = access_to(settings.kafka)
    with admin_client(servers) as admin:
        yield f"Kafka at {servers}", [_look_at_brokers(*count_brokers(admin))]
        topics = [topics_of(admin, kind) for kind, _ in looks]
        for (kind, look), some in zip(looks, topics, strict=True):
            title = f"{kind.name}: {kind.settings.input_topic} -> {kind.settings.output_topic}"
            if some.there:
                yield title, _examine(admin, servers, settings.kafka.group_id, records, kind, some, look)
            else:  # with one kind alone, the other's topics may be missing or hidden
                yield title, [(note if any(each.there for each in topics) else wrong)(some.why_not)]


def _look_at_brokers(registered: int, there: int) -> Finding:
    if there == registered:
        return ok(f"{counted(registered, 'broker')} in the cluster")
    return note(
        f"{there} of {counted(registered, 'broker')} in the cluster are there; Kafka doesn't hear of the others"
    )


def _examine(
    admin: KafkaAdminClient, servers: Servers, group_id: str, records: int, kind: Kind, topics: KindsTopics, look: Look
) -> Iterator[Finding]:
    of_topics = list(examine_topics(topics))
    source, output, _ = topics.partitions
    sound = all(finding.verdict is Verdict.OK for finding in of_topics)
    if sound and source is not None and output is not None and _unused(admin, group_id, kind, source, output):
        yield note(
            f"no {kind.name} worker has run yet: its topics are empty, and group {group_id} has committed nothing"
        )
        return
    yield from of_topics
    if source is not None and output is not None:
        yield from _as_far_as_kafka_lets(lambda: examine_group(admin, group_id, kind, source, output))
    if source is not None:
        topic = kind.settings.input_topic
        yield from _as_far_as_kafka_lets(lambda: look(latest_records(servers, topic, records, time.monotonic)))


def _unused(admin: KafkaAdminClient, group_id: str, kind: Kind, source: int, output: int) -> bool:
    try:
        return is_unused(admin, group_id, kind, source, output)
    except KafkaError:  # which the examination of the group tells of
        return False


def _as_far_as_kafka_lets(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except KafkaError as error:
        yield wrong(f"can't look any further: {remedy(error)}")


def _look_at_readings(settings: ActivitySettings, latest: Latest) -> Iterator[Finding]:
    decoded = {source: decoder(settings)(records) for source, records in latest.records.items()}
    refused = {source: some for source, (_, some) in decoded.items()}
    yield from examine_records(settings.input_topic, latest, refused)
    readings = {source: (latest.records[source], some) for source, (some, _) in decoded.items() if len(some.record)}
    if readings:
        yield from examine_devices(readings, settings, lambda: windower(settings))


def _look_at_texts(settings: TextSettings, latest: Latest) -> Iterator[Finding]:
    refused = {
        source: decode_texts(records, max_bytes=settings.max_bytes)[1] for source, records in latest.records.items()
    }
    yield from examine_records(settings.input_topic, latest, refused)
