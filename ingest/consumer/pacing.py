"""Keeps polls from spinning while a heartbeat is overdue.

A poll of kafka-python (3.0.12) waits at most until the next heartbeat is due. While one is overdue and unanswered, it
doesn't wait at all. So a frozen broker is polled 800 times a second, and each poll adds callbacks to the fetch in
flight, some 17 MB a second, until that times out after half a minute.
"""

from typing import Any

LEAST_WAIT_S = 0.05


def wait_at_least(coordinator: Any) -> None:
    """Make a consumer's polls wait for at least `LEAST_WAIT_S`, if their timeout allows it."""
    time_to_next_poll = coordinator.time_to_next_poll
    coordinator.time_to_next_poll = lambda: max(LEAST_WAIT_S, time_to_next_poll())
