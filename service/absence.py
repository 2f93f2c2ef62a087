"""Whether Kafka answers: said once when it no longer does, and once when it does again."""

import logging
import time

from ingest.consumer import Hearing

log = logging.getLogger(__name__)

# A fetch is answered within FETCH_MAX_WAIT_MS, records or none.
NO_ANSWER_S = 5.0


class Absence:
    """Watches the answers to fetches; kafka-python tries on by itself."""

    def __init__(self, hearing: Hearing, servers: str) -> None:
        self._hearing = hearing
        self._servers = servers
        self._fetching_since = time.monotonic()
        self._unanswered_since: float | None = None  # set while Kafka is known to be away

    def notice(self, *, fetching: bool) -> None:
        """Look; ``fetching`` is whether anything is asked for, for then an answer may be missing."""
        now = time.monotonic()
        if not fetching:
            self._fetching_since = now
            return
        last_answer = self._hearing.last_answer or float("-inf")
        waiting_since = max(self._fetching_since, last_answer)
        if self._unanswered_since is None and now - waiting_since >= NO_ANSWER_S:
            self._unanswered_since = waiting_since
            log.warning("no answer from Kafka at %s for %.0f s; trying on", self._servers, now - waiting_since)
        elif self._unanswered_since is not None and last_answer > self._unanswered_since:
            log.info("Kafka answers again, after %.0f s", now - self._unanswered_since)
            self._unanswered_since = None
