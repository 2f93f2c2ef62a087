"""Fixes resuming: a partition that was paused and resumed goes on.

kafka-python (3.0.12) parks fetched records of a partition when that is paused (KAFKA-7548), and takes them up again
when no other records are next in line. But an empty object of a partition that was read to its end keeps that place. So
if a second partition was parked meanwhile, its records wait for ever, and no more are fetched. Here parked records of
resumed partitions alternate with those in line; otherwise they would wait for as long as there is a backlog elsewhere.
"""

from typing import Any


def resume_parked(fetcher: Any) -> None:
    """Make a consumer's fetcher return parked records of partitions that are no longer paused."""
    take = fetcher.fetched_records

    def make_way_and_take(*arguments: Any, **options: Any) -> Any:
        _make_way(fetcher)
        return take(*arguments, **options)

    fetcher.fetched_records = make_way_and_take


def _make_way(fetcher: Any) -> None:
    """Clear the place in line if others are parked: the fetcher fills it with the one parked longest."""
    parked, in_line = fetcher._paused_partition_records, fetcher._next_partition_records
    if all(fetcher._subscriptions.is_paused(partition) for partition in parked):
        return
    if in_line:
        parked[in_line.topic_partition] = in_line
    fetcher._next_partition_records = None
