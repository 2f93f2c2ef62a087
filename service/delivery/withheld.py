"""Dead-letter topics that can't be written for now: their letters wait, and are tried again at growing intervals."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# A producer that was just opened doesn't know the topic yet, so a missing topic isn't logged before.
QUIET_S = 2.0
FIRST_LOOK_S = 0.02
RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
TELL_EVERY_S = 60.0


@dataclass(slots=True)
class _Outage:
    look_at: float
    wait_s: float
    tell_at: float
    told: bool = False


class Withheld:
    """Which dead-letter topics get no letters for now; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}

    def holds(self, topic: str, knows: Callable[[str], bool]) -> bool:
        """Return whether a topic's letters are to wait; ``knows`` says, without blocking, whether the topic exists."""
        with self._lock:
            now, outage = time.monotonic(), self._outages.get(topic)
            if outage is not None and now < outage.look_at:
                return True
            if knows(topic):
                return False
            outage = self._outages.setdefault(topic, _Outage(now, FIRST_LOOK_S, now + QUIET_S))
            self._put_off(topic, "Kafka knows no such topic, or shows it to others only", outage)
            return True

    def holds_any(self) -> bool:
        """Return whether letters of any topic wait, as of the last try."""
        with self._lock:
            now = time.monotonic()
            return any(now < outage.look_at for outage in self._outages.values())

    def failed(self, topic: str, why: object) -> None:
        """Record that a topic can't be written."""
        with self._lock:
            now = time.monotonic()
            outage = self._outages.setdefault(topic, _Outage(now, RETRY_S, now))
            if now >= outage.look_at:  # else it was sent before the last failure
                outage.wait_s = max(outage.wait_s, RETRY_S)
                self._put_off(topic, why, outage)

    def written(self, topic: str) -> None:
        """Record that a topic can be written."""
        with self._lock:
            outage = self._outages.pop(topic, None)
        if outage is not None and outage.told:
            log.warning("dead letters go to %s again", topic)

    def _put_off(self, topic: str, why: object, outage: _Outage) -> None:
        now = time.monotonic()
        outage.look_at = now + outage.wait_s
        outage.wait_s = min(2 * outage.wait_s, LONGEST_RETRY_S)
        if now < outage.tell_at:
            return
        outage.tell_at, outage.told = now + TELL_EVERY_S, True
        log.error(
            "dead letters can't go to %s (%s): they wait, and so do the positions behind their records; "
            "all else goes on, and it is tried again and again",
            topic,
            why,
        )
