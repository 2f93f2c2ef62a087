from types import SimpleNamespace

from ingest.consumer.pacing import LEAST_WAIT_S, wait_at_least


def test_a_poll_waits_a_moment_at_least_and_else_as_long_as_the_heartbeat_allows() -> None:
    """While a broker stood still, polls that waited for nothing came 800 times a second and filled the memory."""
    left_s = 0.0
    coordinator = SimpleNamespace(time_to_next_poll=lambda: left_s)
    wait_at_least(coordinator)
    assert coordinator.time_to_next_poll() == LEAST_WAIT_S
    left_s = 0.7
    assert coordinator.time_to_next_poll() == 0.7
