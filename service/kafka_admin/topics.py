"""Topics: creates missing ones, and checks whether existing ones allow what the service promises.

Errors:
    TopicError
    ├── BrokerUnreachable     nothing that speaks Kafka answered at the address in time
    └── TopicRefused          the broker would not create a topic, or do something else that was asked
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.cluster import collect_hosts
from kafka.errors import (
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from ingest.client.access import Servers, access
from ingest.client.connection import make_client
from ingest.client.errors import NotLetInError

FOREVER = -1
"""The value of `retention.ms` and `retention.bytes` for no deletion by age or size."""
MORE_IS_AS_GOOD = frozenset({"max.message.bytes"})


class TopicError(Exception):
    """Topics can't be read or created; the text is one sentence that says what to do."""


class BrokerUnreachable(TopicError):
    """Nothing that speaks Kafka answered in time."""


class TopicRefused(TopicError):
    """The broker would not create a topic, or do something else that was asked."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    `partitions` is for creation; an existing topic with another number gets a warning, unless `any_number` is allowed.
    `config` holds Kafka's topic settings by their own names; those in MORE_IS_AS_GOOD are minimums. `may_compact` is
    False if each record counts, not only the last one of its key. `labels_of` names the input topic, if this is the
    topic of its labels. Such a topic deletes by time, never compacts, and keeps its records at least as long as its
    input, because a recovery reads back labels for as long as it can replay readings.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    labels_of: str | None = None
    any_number: bool = False
    may_compact: bool = True


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: its partitions (None if it is missing), and how it differs from what it should be."""

    name: str
    partitions: int | None
    created: bool
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        if self.partitions is None:
            found = "is missing"
        else:
            count = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
            found = f"{'created with' if self.created else 'exists with'} {count}"
        return "; but ".join([f"{self.name}: {found}", *self.warnings])


def ensure_topics(bootstrap_servers: Servers, specs: Sequence[TopicSpec]) -> list[TopicState]:
    """Create missing topics, change no existing one, and return the state of each, in the order given.

    Raises BrokerUnreachable if no broker answers, TopicRefused if one won't create a topic.
    """
    with admin_client(bootstrap_servers) as admin:
        missing = [spec for spec in specs if _partitions(admin, spec.name) is None]
        # Inputs first: a topic of labels takes its retention from its input.
        created = {
            spec.name for spec in sorted(missing, key=lambda spec: spec.labels_of is not None) if _create(admin, spec)
        }
        return [inspect_topic(admin, spec, created=spec.name in created) for spec in specs]


@contextmanager
def admin_client(bootstrap_servers: Servers, *, timeout_s: float = 10.0) -> Iterator[KafkaAdminClient]:
    """Yield an admin client that has reached a broker; close it afterwards.

    Raises BrokerUnreachable if none answers within `timeout_s` seconds, and TopicRefused for what Kafka refuses in the
    body.
    """
    deadline = time.monotonic() + timeout_s
    unreachable = BrokerUnreachable(
        f"no Kafka broker answered at {bootstrap_servers} within {timeout_s:g} s: "
        "is it running, and is the address right?"
    )
    # Tried first without kafka-python, which leaks a socket and logs an error for each connection that is refused.
    if not _listens(bootstrap_servers, deadline):
        raise unreachable
    try:
        admin = make_client(
            KafkaAdminClient,
            bootstrap_servers=bootstrap_servers,
            bootstrap_timeout_ms=max(1, int((deadline - time.monotonic()) * 1000)),
            request_timeout_ms=int(timeout_s * 1000),
        )
    except NotLetInError as error:
        raise BrokerUnreachable(f"can't reach Kafka at {bootstrap_servers}: {error}") from error
    except KafkaError as error:
        raise unreachable from error
    try:
        yield admin
    except KafkaError as error:
        raise TopicRefused(f"the Kafka broker at {bootstrap_servers} did not do what was asked: {error}") from error
    finally:
        admin.close()


def count_partitions(bootstrap_servers: Servers, name: str, *, timeout_s: float = 10.0) -> int | None:
    """Return how many partitions a topic has, None if there is no such topic; the right to write to it is enough.

    Raises BrokerUnreachable or TopicRefused.
    """
    with admin_client(bootstrap_servers, timeout_s=timeout_s) as admin:
        return _partitions(admin, name)


def _listens(bootstrap_servers: Servers, deadline: float) -> bool:
    """Wait until one of the addresses accepts a connection; False if none does before the deadline."""
    try:
        addresses = [(host, port) for host, port, _ in collect_hosts(access(bootstrap_servers).servers)]
    except ValueError as error:
        raise BrokerUnreachable(f"{str(bootstrap_servers)!r} is no host:port[,host:port...]") from error
    while (left := deadline - time.monotonic()) > 0:
        for address in addresses:
            with suppress(OSError), socket.create_connection(address, timeout=left / len(addresses)):
                return True
        time.sleep(0.1)
    return False


def _create(admin: KafkaAdminClient, spec: TopicSpec) -> bool:
    """Create a topic and wait until its partitions have leaders; False if it was created by another client."""
    config = dict(spec.config)
    if spec.labels_of is not None and _partitions(admin, spec.labels_of) is not None:
        kept = _settings(admin, spec.labels_of)
        if not kept:
            raise TopicRefused(
                f"can't create topic {spec.name}, which is to keep as long as {spec.labels_of}, whose settings can't "
                "be looked at: the ACL DESCRIBE_CONFIGS is missing"
            )
        forever = "delete" not in kept["cleanup.policy"]
        config = {
            "cleanup.policy": "delete",
            "retention.ms": str(FOREVER) if forever else kept["retention.ms"],
            "retention.bytes": str(FOREVER),
            **config,
        }
    request = {spec.name: {"num_partitions": spec.partitions, "configs": config}}
    answer = admin.create_topics(request, raise_errors=False)["topics"][0]
    error = for_code(answer["error_code"])
    if error is not NoError and error is not TopicAlreadyExistsError:
        lacks = " (the ACL CREATE is missing)" if error is TopicAuthorizationFailedError else ""
        raise TopicRefused(
            f"the broker refused to create topic {spec.name}: {answer['error_message'] or error.__name__}{lacks}"
        )
    admin.wait_for_topics([spec.name])
    return error is NoError


def inspect_topic(admin: KafkaAdminClient, spec: TopicSpec, *, created: bool = False) -> TopicState:
    """Return the state of a topic; raises TopicRefused, or KafkaError."""
    described = _describe(admin, spec.name)
    if described is None:
        return TopicState(spec.name, None, created, ())
    partitions, warnings = len(described), []
    if partitions != spec.partitions and not spec.any_number:
        # Adding partitions would send a key's next records to another partition, away from its open windows.
        warnings.append(f"{spec.partitions} were asked for, and a topic that exists is never repartitioned")
    settings = _settings(admin, spec.name)
    if not settings:
        warnings.append("its settings can't be looked at: the ACL DESCRIBE_CONFIGS is missing")
        return TopicState(spec.name, partitions, created, tuple(warnings))
    warnings += replica_warnings(described, int(settings["min.insync.replicas"]), count_brokers(admin)[0])
    warnings += [
        f"{name} is {settings.get(name)}, and {value} was asked for"
        for name, value in spec.config.items()
        if not _does(name, settings.get(name), value)
    ]
    if not spec.may_compact and "compact" in settings["cleanup.policy"]:
        warnings.append("it is compacted, which loses all but the last record of each key (cleanup.policy)")
    if spec.labels_of is not None and _partitions(admin, spec.labels_of) is not None:
        readings = _settings(admin, spec.labels_of)
        warnings += retention_warnings(settings, readings, spec.labels_of) if readings else []
    return TopicState(spec.name, partitions, created, tuple(warnings))


def _does(name: str, found: str | None, wanted: str) -> bool:
    """Return whether a setting is as requested, or better."""
    return found == wanted or (name in MORE_IS_AS_GOOD and found is not None and int(found) >= int(wanted))


def retention_warnings(labels: Mapping[str, str], readings: Mapping[str, str], readings_name: str) -> list[str]:
    """Return why a topic of labels may lose labels that a recovery needs; nothing if it keeps them.

    Both mappings hold at least the settings `cleanup.policy`, `retention.ms` and `retention.bytes`.
    """
    warnings = []
    if "compact" in labels["cleanup.policy"]:
        warnings.append("it is compacted, which loses all but the last label of each key")
    if "delete" not in labels["cleanup.policy"]:
        return warnings
    if int(labels["retention.bytes"]) != FOREVER:
        warnings.append("it deletes by size (retention.bytes), which may take labels that a recovery needs")
    kept = int(labels["retention.ms"])
    needed = int(readings["retention.ms"]) if "delete" in readings["cleanup.policy"] else FOREVER
    if kept != FOREVER and (needed == FOREVER or kept < needed):
        warnings.append(
            f"it keeps {_duration(kept)} (retention.ms), "
            f"less than its input {readings_name}, which keeps {_duration(needed)}"
        )
    return warnings


def _duration(milliseconds: int) -> str:
    if milliseconds == FOREVER:
        return "everything"
    for unit, size in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if milliseconds >= 2 * size:
            return f"{milliseconds / size:.4g} {unit}"
    return f"{milliseconds / 1000:g} s"


def _partitions(admin: KafkaAdminClient, name: str) -> int | None:
    """Return how many partitions a topic has, or None if there is no such topic."""
    found = _describe(admin, name)
    return None if found is None else len(found)


def _describe(admin: KafkaAdminClient, name: str) -> list[dict[str, Any]] | None:
    """Return what Kafka says of each partition of a topic, or None if there is no such topic."""
    (topic,) = admin.describe_topics([name])
    error = for_code(topic["error_code"])
    if error is UnknownTopicOrPartitionError:
        return None
    if error is not NoError:
        lacks = " (the ACL DESCRIBE is missing)" if error is TopicAuthorizationFailedError else ""
        raise TopicRefused(f"the broker says nothing about topic {name!r}: {error.description}{lacks}")
    partitions: list[dict[str, Any]] = topic["partitions"]
    return partitions


def replica_warnings(partitions: Sequence[Mapping[str, Any]], least: int, brokers: int) -> list[str]:
    """Return why some partitions can't be read or written for now, or will be lost with one of several brokers.

    ``least`` is `min.insync.replicas`. Kafka asks for no more in-sync replicas than a partition has at all.
    """
    leaderless = sum(partition["leader_id"] < 0 for partition in partitions)
    short = sum(
        partition["leader_id"] >= 0 and len(partition["isr_nodes"]) < min(least, len(partition["replica_nodes"]))
        for partition in partitions
    )
    single = sum(len(partition["replica_nodes"]) == 1 for partition in partitions) if brokers > 1 else 0
    warnings = []
    if leaderless:
        warnings.append(f"{_counted(leaderless)} no leader, and can't be read or written: brokers are away")
    if short:
        warnings.append(
            f"{_counted(short)} fewer replicas in sync than min.insync.replicas ({least}), and can't be written: "
            "brokers are away"
        )
    if single:
        warnings.append(
            f"{_counted(single)} a single replica, though there are {brokers} brokers: what it holds is away while its "
            "broker is, and lost with its disk"
        )
    return warnings


def _counted(partitions: int) -> str:
    return "1 partition has" if partitions == 1 else f"{partitions} partitions have"


def describe_cluster(admin: KafkaAdminClient) -> Mapping[str, Any]:
    """Return the cluster's id and its brokers, in kafka-python's form; raises KafkaError.

    Kafka before 4.0 doesn't tell of brokers that are away. From 2.8 to 3.6 its answer has no type of endpoint, for lack
    of which kafka-python (3.0.12) fails; what it asks older ones is answered by all.
    """
    try:
        cluster: Mapping[str, Any] = admin.describe_cluster()
    except KeyError:
        cluster = admin._manager.run(admin._get_cluster_metadata, [])
    return cluster


def count_brokers(admin: KafkaAdminClient) -> tuple[int, int]:
    """Return how many brokers the cluster has, and how many of them are there: Kafka lists the dead, too."""
    brokers = describe_cluster(admin)["brokers"]
    return len(brokers), sum(not broker.get("is_fenced") for broker in brokers)


def _settings(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    """Return a topic's settings, including the broker's defaults; none if this user may not see them."""
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    return {key: setting["value"] for key, setting in found["topic"][name].items()}
