"""The versions of kafka-python that this was tested with, and the parts of it that aren't public and are used here.

A client that lacks one is refused when it is made: it would fail in the middle of its work, or lose what these parts
are used for. A test holds that every name with an underscore that is used is here; of the others, those that are
replaced, and those that no documentation has.
"""

import functools
import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.net.transport import KafkaTCPTransport
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionManager
from kafka.protocol.parser import KafkaProtocol
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from ingest.client.errors import IngestError

log = logging.getLogger(__name__)

TESTED: Final = ("3.0.12",)
"""To add a version, run all tests of `tests/ingest` and `tests/kafka`, above all `test_fetched.py`."""

MANAGER: Final[tuple[str, ...]] = (
    "_auth_failures",
    "_build_transport",
    "_connect",
    "_net.sleep",
    "call_soon",
    "cluster.bootstrap_brokers",
    "cluster.is_bootstrap",
    "cluster.leader_for_partition",
    "cluster.request_update",
    "connection_delay",
    "get_connection",
    "reset_backoff",
    "send",
    "update_backoff",
)
"""Of what manages the connections of any client."""

CONSUMER: Final[tuple[str, ...]] = (
    "_coordinator._commit_offsets_sync_async",
    "_coordinator._enable_heartbeat",
    "_coordinator._generation",
    "_coordinator._join_task",
    "_coordinator._lock",
    "_coordinator._on_join_complete_async",
    "_coordinator._process_join_group_response",
    "_coordinator.coordinator_id",
    "_coordinator.heartbeat.last_send",
    "_coordinator.heartbeat.received_heartbeat",
    "_coordinator.join_group_async",
    "_coordinator.need_rejoin",
    "_coordinator.poll",
    "_coordinator.rejoin_needed",
    "_coordinator.rejoining",
    "_coordinator.reset_generation",
    "_coordinator.state",
    "_coordinator.time_to_next_poll",
    "_fetcher._append",
    "_fetcher._handle_fetch_response",
    "_fetcher._manager",
    "_fetcher._next_partition_records",
    "_fetcher._paused_partition_records",
    "_fetcher._send_list_offsets_requests",
    "_fetcher._subscriptions.is_paused",
    "_fetcher.PartitionRecords",
    "_fetcher.fetched_records",
    "_manager.cluster",
    "_net.sleep",
    "_subscription.assigned_partitions",
    "_subscription.assignment",
)

PRODUCER: Final[tuple[str, ...]] = (
    "_accumulator._appends_in_progress",
    "_accumulator._batches",
    "_accumulator._closed",
    "_accumulator._incomplete",
    "_accumulator._tp_lock",
    "_closed",
    "_ensure_valid_record_size",
    "_metadata.partitions_for_topic",
    "_metadata.request_update",
    "_partition",
    "_sender._client.api_version",
    "_sender._client.await_ready",
    "_sender._can_split",
    "_sender._client.poll",
    "_sender._dispatch_error",
    "_sender._record_exceptions_fn",
    "_sender.add_topic",
    "_sender.config",
    "_sender.force_close",
    "_sender.wakeup",
    "_transaction_manager",
    "_wait_on_metadata",
)

ADMIN: Final[tuple[str, ...]] = ("_get_cluster_metadata", "_manager.run")

CLASSES: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (DefaultRecordBatch, ("_buffer", "_decompressed", "_next_record_index", "_pos", "_read_msg")),
    (
        DefaultRecordBatchBuilder,
        ("_buffer", "_first_timestamp", "_last_offset", "_max_timestamp", "_num_records", "write_header"),
    ),
    (
        Fetcher.PartitionRecords,
        (
            "_consume_aborted_transactions_up_to",
            "_contains_abort_marker",
            "_is_batch_aborted",
            "_maybe_raise_next_inline_exception",
            "_maybe_skip_record",
            "_unpack_records",
        ),
    ),
    (FutureRecordMetadata, ("rebind",)),
    (KafkaProtocol, ("_rbuffer",)),
    (KafkaTCPTransport, ("_closed", "_protocol", "_read_from_sock", "_sock", "_sock_recv")),
    (MemoryRecords, ("_buffer", "_cache_next", "_next_slice", "_pos")),
    (ProducerBatch, ("_record_futures", "produce_future", "record_count", "records", "topic_partition")),
    (
        TransactionManager,
        (
            "_pending_txn_offset_commits",
            "begin_abort",
            "begin_commit",
            "maybe_add_partition_to_transaction",
            "reset_producer_id",
            "send_offsets_to_transaction",
            "transition_to_fatal_error",
        ),
    ),
)


def refuse_unfit(client: Any) -> None:
    """Raise IngestError if a client, or a class of kafka-python, lacks a part."""
    parts: tuple[str, ...] = ()
    if isinstance(client, kafka.KafkaConsumer):
        parts = CONSUMER
    elif isinstance(client, kafka.KafkaProducer):
        parts = PRODUCER
    elif isinstance(client, kafka.KafkaAdminClient):
        parts = ADMIN
    refuse_lacking([(client, part) for part in parts] + [(one, part) for one, parts in CLASSES for part in parts])


def refuse_lacking(parts: Iterable[tuple[Any, str]]) -> None:
    """Raise IngestError if an object or a class lacks a part of this name, in which dots stand between attributes."""
    missing = sorted({f"{_kind(owner).__name__}.{part}" for owner, part in parts if not _has(owner, part.split("."))})
    if missing:
        raise IngestError(
            f"kafka-python {kafka.__version__} and Stridecast don't fit together ({', '.join(missing)}): "
            "install the version in constraints.txt"
        )


def _has(owner: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not hasattr(owner, name):
            return isinstance(owner, type) and name in _names_in(owner)
        owner = getattr(owner, name)
    return True


@functools.cache
def _names_in(owner: type) -> frozenset[str]:
    """Return the names in the code of a class: among them are the attributes that its instances get."""
    methods = [member for base in owner.__mro__ for member in vars(base).values() if inspect.isfunction(member)]
    return frozenset(name for method in methods for name in method.__code__.co_names)


def _kind(owner: Any) -> type:
    return owner if isinstance(owner, type) else type(owner)


def tell_version() -> None:
    """Log the version that is installed, or warn of one that this wasn't tested with."""
    if kafka.__version__ in TESTED:
        log.info("reading by kafka-python %s", kafka.__version__)
    else:
        tested = ", ".join(TESTED)
        log.warning("kafka-python %s is not what this has been tested with, which is %s", kafka.__version__, tested)
