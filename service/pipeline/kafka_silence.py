"""Whether Kafka answers fetches: logged once when it stops, and once when it answers again."""

import logging
import time

from ingest.consumer.fetch_progress import FetchProgress

log = logging.getLogger(__name__)

# A fetch is answered within FETCH_MAX_WAIT_MS, records or none.
NO_ANSWER_S = 5.0


class KafkaSilence:
    """Watches the answers to fetches; kafka-python retries by itself. `silence_s` is for any thread."""

    def __init__(self, fetch_progress: FetchProgress, servers: str) -> None:
        self._fetch_progress = fetch_progress
        self._servers = servers
        self._fetching_since: float | None = None
        self._unanswered_since: float | None = None  # set while Kafka is known to be away

    def notice(self, *, fetching: bool) -> None:
        """Check; ``fetching`` is whether any partition is being fetched, because only then an answer is due."""
        now = time.monotonic()
        if not fetching:
            self._fetching_since = None
            return
        if self._fetching_since is None:
            self._fetching_since = now
        last_answer = self._last_answer
        waiting_since = max(self._fetching_since, last_answer)
        if self._unanswered_since is None and now - waiting_since >= NO_ANSWER_S:
            self._unanswered_since = waiting_since
            log.warning("no answer from Kafka at %s for %.0f s; trying on", self._servers, now - waiting_since)
        elif self._unanswered_since is not None and last_answer > self._unanswered_since:
            log.info("Kafka answers again, after %.0f s", now - self._unanswered_since)
            self._unanswered_since = None

    def silence_s(self) -> float:
        """Return for how many seconds no fetch has been answered; 0 while nothing is fetched."""
        fetching_since = self._fetching_since
        if fetching_since is None:
            return 0.0
        return time.monotonic() - max(fetching_since, self._last_answer)

    @property
    def _last_answer(self) -> float:
        return self._fetch_progress.last_answer or float("-inf")
