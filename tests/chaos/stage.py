"""Topics and workers' flags of one scenario, and the reckoning in the end."""

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from inference.bundle import Bundle
from service.configuration.settings import ServiceSettings
from service.kafka_admin.topics import TopicSpec, ensure_topics
from tests.chaos.broker import FragileBroker
from tests.chaos.cluster import FragileCluster
from tests.chaos.expected import Expected, expected_activities, expected_texts
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load, Record, Sent, send_at_once

DELIVERIES: tuple[str, ...] = get_args(ServiceSettings.model_fields["delivery"].annotation)
SESSION_TIMEOUT_S = 3
TRANSACTION_TIMEOUT_S = 3
PARTITIONS = 8
Kafka = FragileBroker | FragileCluster


@dataclass(frozen=True)
class Stage:
    """One kind's topics on a broker or a cluster, its bundle, and what its workers are told."""

    broker: Kafka
    kind: str
    delivery: str
    bundle: Bundle
    folder: Path
    input: str
    output: str
    dead_letters: str
    partitions: int
    outputs: int
    flags: Mapping[str, str]

    def fleet(self) -> Fleet:
        return Fleet(self.kind, itertools.chain.from_iterable(self.flags.items()), self.folder)

    def load(self, records: Sequence[Record]) -> Load:
        return Load(self.broker.bootstrap_servers, self.input, records)

    def send_at_once(self, records: Sequence[Record], **compression: Any) -> list[Sent]:
        return send_at_once(self.broker.bootstrap_servers, self.input, records, **compression)

    def told(self, **flags: str) -> "Stage":
        """Return the same stage whose workers are told something else; ``__`` stands for a dot, ``_`` for a dash."""
        return replace(self, flags={**self.flags, **as_flags(flags)})

    def expected(self, sent: Iterable[Sent], *, silent: bool = False) -> Expected:
        if self.kind == "text":
            return expected_texts(sent, self.bundle.folder)
        most = int(self.flags.get("--activity.max-devices", 65_536))
        return expected_activities(sent, self.bundle, silent=silent, max_devices=most)


def open_stage(
    broker: Kafka,
    folder: Path,
    bundle: Bundle,
    *,
    kind: str = "activity",
    delivery: str = "at_least_once",
    partitions: int = PARTITIONS,
    outputs: int | None = None,
    topics: Mapping[str, Mapping[str, str]] | None = None,
    **flags: str,
) -> Stage:
    """Make the topics; ``outputs`` is how many partitions the labels' topic has where not as many as the input.

    ``topics`` are settings of the topics ``in``, ``out`` and ``dead``, ``flags`` as in ``Stage.told``.
    """
    name = f"{kind}-{uuid.uuid4().hex[:8]}"
    counts = {"in": partitions, "out": outputs or partitions, "dead": 1}
    settings = {"dead": {"max.message.bytes": str(2 << 20)}, **(topics or {})}
    made = [TopicSpec(f"{name}-{which}", count, settings.get(which, {})) for which, count in counts.items()]
    ensure_topics(broker.bootstrap_servers, made)
    given = {
        "--kafka.bootstrap-servers": broker.bootstrap_servers,
        "--kafka.group-id": name,
        f"--{kind}.input-topic": made[0].name,
        f"--{kind}.output-topic": made[1].name,
        f"--{kind}.dead-letter-topic": made[2].name,
        f"--{kind}.bundle": str(bundle.folder),
        "--inference.device": "cpu",
        "--inference.precision": "float32",  # what labels are compared with; on some CPUs bfloat16 is faster
        "--delivery": delivery,
        "--kafka.session-timeout-s": str(SESSION_TIMEOUT_S),
        "--kafka.transaction-timeout-s": str(TRANSACTION_TIMEOUT_S),
        **as_flags(flags),
    }
    names = (made[0].name, made[1].name, made[2].name)
    return Stage(broker, kind, delivery, bundle, folder, *names, partitions, outputs or partitions, given)


def as_flags(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"--{name.replace('__', '.').replace('_', '-')}": value for name, value in settings.items()}
