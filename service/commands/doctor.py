"""``stridecast doctor``."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from pydantic import Field
from rich.console import Console
from rich.text import Text

from ingest.access import remedy
from ingest.latest import Latest, latest_records
from ingest.texts import decode_texts
from service.activity_worker import activity_kind, decoder, windower
from service.commands.topics import specs
from service.doctor.devices import examine_devices
from service.doctor.findings import Finding, Verdict, counted, note, ok, wrong
from service.doctor.group import examine_group
from service.doctor.records import examine_records
from service.kind import Kind
from service.security import access_to
from service.settings import ActivitySettings, TextSettings, TopicSettings
from service.terminal import printable
from service.text_worker import text_kind
from service.topics import TopicRefused, TopicState, admin_client, inspect_topics

Look = Callable[[Latest], Iterator[Finding]]

COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "bold red"}


class Options(TopicSettings):
    """Look at Kafka, the topics, the group and what devices send, and say what is wrong; change nothing.

    Reads the latest records of each input topic as a worker would: which are refused, and why; whether a device's are
    on two partitions; whether its clock, unit and rate are such that windows get labels. A kind of worker without any
    topic is left out. Ends with status 1 where something is wrong, and with 0 where there are only notes.
    """

    records: int = Field(
        100_000, ge=1, le=10_000_000, description="records to look at, the latest of each topic, of all partitions"
    )


def run(options: Options) -> int:
    """Print what is found; return the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    verdicts = set()
    for title, findings in _examinations(options):
        console.print(Text(title, "bold"))
        with console.status("looking"):  # the first time code is compiled, for some seconds
            for finding in findings:
                verdicts.add(finding.verdict)
                console.print(Text(f"  {finding.verdict:<7}", COLOURS[finding.verdict]) + Text(printable(finding.text)))
    return 1 if Verdict.WRONG in verdicts else 0


def _examinations(options: Options) -> Iterator[tuple[str, Iterable[Finding]]]:
    """Yield what is looked at, with what is found, which is found while it is gone through."""
    looks: list[tuple[Kind, Look]] = [
        (activity_kind(options.activity), lambda latest: _look_at_readings(options.activity, latest)),
        (text_kind(options.text), lambda latest: _look_at_texts(options.text, latest)),
    ]
    servers = access_to(options.kafka)
    with admin_client(servers) as admin:
        brokers = len(admin.describe_cluster()["brokers"])
        yield f"Kafka at {servers}", [ok(f"{counted(brokers, 'broker')} in the cluster")]
        found = [_topics(options, kind) for kind, _ in looks]
        for (kind, look), states in zip(looks, found, strict=True):
            yield (
                f"{kind.name}: {kind.settings.input_topic} -> {kind.settings.output_topic}",
                (
                    _examine(admin, options, kind, states, look)
                    if any(_is_there(state) for state in states)
                    # Who runs one kind of worker alone has no other topics, or may not see them.
                    else [(note if any(map(_is_there, itertools.chain(*found))) else wrong)(_nothing(states))]
                ),
            )


def _topics(options: Options, kind: Kind) -> list[TopicState | TopicRefused]:
    """Return what a kind's topics are like, the input, the output and the dead letters; or why that isn't told."""
    states: list[TopicState | TopicRefused] = []
    for spec in specs([kind.settings], None):
        try:
            states += inspect_topics(access_to(options.kafka), [spec])
        except TopicRefused as error:
            states.append(error)
    return states


def _is_there(state: TopicState | TopicRefused) -> bool:
    return isinstance(state, TopicState) and state.partitions is not None


def _nothing(states: Sequence[TopicState | TopicRefused]) -> str:
    refused = [str(state) for state in states if isinstance(state, TopicRefused)]
    return refused[0] if refused else "none of its topics is there: `stridecast topics` creates them"


def _examine(
    admin: KafkaAdminClient, options: Options, kind: Kind, states: Sequence[TopicState | TopicRefused], look: Look
) -> Iterator[Finding]:
    for state in states:
        missing = "" if isinstance(state, TopicRefused) or _is_there(state) else "; `stridecast topics` creates it"
        well = isinstance(state, TopicState) and _is_there(state) and not state.warnings
        yield (ok if well else wrong)(f"{state}{missing}")
    source, output, _ = (state.partitions if isinstance(state, TopicState) else None for state in states)
    if source is not None and output is not None:
        yield from _as_far_as_kafka_lets(examine_group(admin, options.kafka.group_id, kind, source, output))
    if source is not None:
        yield from _as_far_as_kafka_lets(_look(options, kind, look))


def _look(options: Options, kind: Kind, look: Look) -> Iterator[Finding]:
    yield from look(
        latest_records(access_to(options.kafka), kind.settings.input_topic, options.records, time.monotonic)
    )


def _as_far_as_kafka_lets(findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
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
