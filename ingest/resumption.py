"""Lets a partition that was paused and resumed go on.

kafka-python (3.0.12) parks what it has read of a partition when that is paused (KAFKA-7548), and takes it up again
when the place of the records in line is empty. But of a partition that has been read to its end an empty husk keeps
that place, so where a second partition was parked meanwhile, its records wait for ever, and no more are fetched. Here
parked records that may go on come first, in turns with those in line, for otherwise they would wait for as long as
there is a backlog elsewhere.
"""

from typing import Any


def resume_parked(fetcher: Any) -> None:
    """Make a consumer's fetcher look after parked records of partitions that are no longer paused."""
    take = fetcher.fetched_records

    def make_way_and_take(*arguments: Any, **options: Any) -> Any:
        _make_way(fetcher)
        return take(*arguments, **options)

    fetcher.fetched_records = make_way_and_take


def _make_way(fetcher: Any) -> None:
    """Leave the place in line, if there are others, for the one parked longest: the fetcher fills it by itself."""
    parked, in_line = fetcher._paused_partition_records, fetcher._next_partition_records
    if all(fetcher._subscriptions.is_paused(partition) for partition in parked):
        return
    if in_line:
        parked[in_line.topic_partition] = in_line
    fetcher._next_partition_records = None
