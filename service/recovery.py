"""Where to begin to read a partition that has just been assigned: a pure function of what Kafka says of it."""

from dataclasses import dataclass

from ingest import snapshot


@dataclass(frozen=True, slots=True)
class Plan:
    """Read from ``rewind_to``; records before ``position`` only rebuild windows and are not counted again.

    ``warnings`` are sentences for the operator, where what was committed doesn't fit the log.
    """

    position: int
    rewind_to: int
    warnings: tuple[str, ...] = ()


def plan(committed: tuple[int, str] | None, *, log_start: int, log_end: int) -> Plan:
    """Decide from the commit (position and metadata; None without one) and the log's first and next offsets."""
    if committed is None:
        return Plan(log_start, log_start)
    position, metadata = committed
    if not log_start <= position <= log_end:
        warning = (
            f"the committed position {position} lies outside the log, which holds {log_start} to {log_end}: "
            "the topic was made anew or its records expired; reading from the earliest record"
        )
        return Plan(log_start, log_start, (warning,))
    if not metadata:
        return Plan(position, position)
    try:
        rewind_to = snapshot.decode(metadata, position).rewind_to
    except snapshot.SnapshotError as error:
        warning = f"the commit's metadata can't be used ({error}); windows open at position {position} are lost"
        return Plan(position, position, (warning,))
    if rewind_to < log_start:
        warning = f"records from {rewind_to} to {log_start - 1} have expired; windows that they began may be incomplete"
        return Plan(position, log_start, (warning,))
    return Plan(position, rewind_to)
