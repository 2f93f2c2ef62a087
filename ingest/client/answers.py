"""Gives up on a coordinator that stands still sooner than kafka-python (3.0.12) does, which waits 30 s for any answer.

By then the group's new coordinator, which has had no heartbeat, has put the members out: one broker of three that stood
still kept all partitions from all workers for as long. All other requests are waited for as before: over a connection
with fetches an answer may be large, and those behind it late. Only the question who coordinates may go over one of
those, and is asked where the coordinator is lost.
"""

from typing import Any

from kafka.protocol.consumer import HeartbeatRequest, OffsetFetchRequest
from kafka.protocol.metadata import FindCoordinatorRequest

# Another coordinates after 10 s (broker.session.timeout.ms: 9 s by default). Any broker is asked which, so it may be
# the one that stands still.
WITHIN_MS = {HeartbeatRequest: 10_000, OffsetFetchRequest: 10_000, FindCoordinatorRequest: 5_000}


def expect_answers(manager: Any) -> None:
    """Have such requests of a client's manager fail if they are not answered in time."""
    send = manager.send

    def send_in_time(request: Any, node_id: Any = None, request_timeout_ms: float | None = None) -> Any:
        within_ms = WITHIN_MS.get(type(request))
        if request_timeout_ms is None and within_ms is not None:
            request_timeout_ms = min(within_ms, manager.config["request_timeout_ms"])
        return send(request, node_id=node_id, request_timeout_ms=request_timeout_ms)

    manager.send = send_in_time
