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
class _Absence:
    look_at: float
    wait_s: float
    tell_at: float
    told: bool = False


class Withheld:
    """Which dead-letter topics get no letters for now; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._absences: dict[str, _Absence] = {}

    def holds(self, topic: str, knows: Callable[[str], bool]) -> bool:
        """Return whether a topic's letters are to wait; ``knows`` says, without blocking, whether the topic exists."""
        with self._lock:
            now, absence = time.monotonic(), self._absences.get(topic)
            if absence is not None and now < absence.look_at:
                return True
            if knows(topic):
                return False
            absence = self._absences.setdefault(topic, _Absence(now, FIRST_LOOK_S, now + QUIET_S))
            self._put_off(topic, "Kafka knows no such topic, or shows it to others only", absence)
            return True

    def holds_any(self) -> bool:
        """Return whether letters of any topic wait, as of the last try."""
        with self._lock:
            now = time.monotonic()
            return any(now < absence.look_at for absence in self._absences.values())

    def failed(self, topic: str, why: object) -> None:
        """Record that a topic can't be written."""
        with self._lock:
            now = time.monotonic()
            absence = self._absences.setdefault(topic, _Absence(now, RETRY_S, now))
            if now >= absence.look_at:  # else it was sent before the last failure
                absence.wait_s = max(absence.wait_s, RETRY_S)
                self._put_off(topic, why, absence)

    def written(self, topic: str) -> None:
        """Record that a topic can be written."""
        with self._lock:
            absence = self._absences.pop(topic, None)
        if absence is not None and absence.told:
            log.warning("dead letters go to %s again", topic)

    def _put_off(self, topic: str, why: object, absence: _Absence) -> None:
        now = time.monotonic()
        absence.look_at = now + absence.wait_s
        absence.wait_s = min(2 * absence.wait_s, LONGEST_RETRY_S)
        if now < absence.tell_at:
            return
        absence.tell_at, absence.told = now + TELL_EVERY_S, True
        log.error(
            "dead letters can't go to %s (%s): they wait, and so do the positions behind their records; "
            "all else goes on, and it is tried again and again",
            topic,
            why,
        )
