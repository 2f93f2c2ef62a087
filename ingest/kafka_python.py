"""The versions of kafka-python that the consumer was tested with, and the non-public parts that it relies on."""

import logging
from collections.abc import Iterable
from typing import Final

import kafka
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords

from ingest.connection import IngestError

log = logging.getLogger(__name__)

TESTED: Final = ("3.0.12",)
"""To add a version, run all tests of `tests/ingest` and `tests/kafka`, above all `test_fetched.py`."""


def refuse_other_versions(consumer: kafka.KafkaConsumer) -> None:
    """Raise IngestError for a kafka-python that lacks a part; warn of an untested version."""
    refuse_lacking(_parts_of(consumer))
    if kafka.__version__ in TESTED:
        log.info("reading by kafka-python %s", kafka.__version__)
    else:
        tested = ", ".join(TESTED)
        log.warning("kafka-python %s is not what this has been tested with, which is %s", kafka.__version__, tested)


def refuse_lacking(leant_on: Iterable[tuple[object, str]]) -> None:
    """Raise IngestError if an object lacks a named attribute: kafka-python's, or one of ours that it calls."""
    missing = [name for owner, name in leant_on if not hasattr(owner, name)]
    if missing:
        raise IngestError(
            f"kafka-python {kafka.__version__} and Stridecast don't fit together ({', '.join(missing)}): "
            "install the version in constraints.txt"
        )


def _parts_of(consumer: kafka.KafkaConsumer) -> list[tuple[object, str]]:
    return [
        (consumer, "_net"),
        (consumer, "_subscription"),
        (consumer._subscription, "assigned_partitions"),
        (consumer._coordinator, "coordinator_id"),
        (consumer._coordinator, "_commit_offsets_sync_async"),
        (consumer._coordinator, "poll"),
        (consumer._coordinator, "time_to_next_poll"),
        (consumer._coordinator, "need_rejoin"),
        (consumer._coordinator, "rejoining"),
        (consumer._coordinator, "reset_generation"),
        (consumer._coordinator, "join_group_async"),
        (consumer._coordinator, "_join_task"),
        (consumer._coordinator, "_on_join_complete_async"),
        (consumer._coordinator, "_enable_heartbeat"),
        (consumer._coordinator, "_process_join_group_response"),
        (consumer._coordinator, "state"),
        (consumer._coordinator.heartbeat, "last_send"),
        (consumer._coordinator.heartbeat, "received_heartbeat"),
        (consumer._fetcher, "_handle_fetch_response"),
        (consumer._fetcher, "PartitionRecords"),
        (consumer._fetcher.PartitionRecords, "_unpack_records"),
        (consumer._fetcher.PartitionRecords, "_maybe_skip_record"),
        (consumer._fetcher.PartitionRecords, "_maybe_raise_next_inline_exception"),
        *((MemoryRecords, name) for name in ("_buffer", "_pos", "_next_slice", "_cache_next")),
        (consumer._fetcher.PartitionRecords, "_consume_aborted_transactions_up_to"),
        (consumer._fetcher.PartitionRecords, "_contains_abort_marker"),
        (consumer._fetcher.PartitionRecords, "_is_batch_aborted"),
        (DefaultRecordBatch, "_buffer"),
        (DefaultRecordBatch, "_pos"),
        (DefaultRecordBatch, "_next_record_index"),
        (DefaultRecordBatch, "_read_msg"),
        (consumer._fetcher, "_manager"),
        (consumer._fetcher, "_send_list_offsets_requests"),
        (consumer._fetcher, "fetched_records"),
        (consumer._fetcher, "_append"),
        (consumer._fetcher, "_next_partition_records"),
        (consumer._fetcher, "_paused_partition_records"),
    ]
