"""Keeps polls from spinning while a heartbeat is overdue.

kafka-python (3.0.12) waits in a poll no longer than until the next heartbeat is due, which is not at all while one is
overdue and unanswered: a broker that stands still is polled 800 times a second, and each time leaves callbacks at the
fetch that is on its way, some 17 MB a second, until that is given up after half a minute.
"""

from typing import Any

LEAST_WAIT_S = 0.05


def wait_at_least(coordinator: Any) -> None:
    """Let a consumer's polls wait for a moment at least, if they have that much time."""
    time_to_next_poll = coordinator.time_to_next_poll
    coordinator.time_to_next_poll = lambda: max(LEAST_WAIT_S, time_to_next_poll())
