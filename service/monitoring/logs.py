"""Log lines, one for each event, for people (text) or programs (JSON)."""

import json
import logging
import re
import ssl
import sys
import time
from collections.abc import Callable

CLIENT_REPEATS_S = 60.0
# They say at each attempt which broker can't be reached, and why, or which topic can't be written.
REPEATERS = ("ingest.client.connection", "ingest.producer.failing_batches")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class ClientFilter(logging.Filter):
    """Limits repeated records of kafka-python, several a second while Kafka is away, to one a minute.

    A repetition is a record from the same line of source code, whatever its text, or one with the same text of our own
    clients. The next one that passes says how many did not. What is normal, or what the worker itself logs, is
    left out. Records of all other loggers pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[object, float] = {}
        self._left_out: dict[object, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.name in REPEATERS:
            return self._is_due(record.getMessage(), record)
        if not record.name.startswith("kafka."):
            return True
        if _is_normal(record) or _is_told_by_us(record):
            return False
        return self._is_due((record.pathname, record.lineno), record)

    def _is_due(self, place: object, record: logging.LogRecord) -> bool:
        now = self._clock()
        if now - self._last.get(place, float("-inf")) < CLIENT_REPEATS_S:
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return False
        self._last[place] = now
        left_out = self._left_out.pop(place, 0)
        if left_out and record.name not in REPEATERS:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like it were left out before)", ()
        return True


def _is_normal(record: logging.LogRecord) -> bool:
    """Return whether a record is about something that happens at each start or end and needs no action."""
    text = record.getMessage()
    # A new group's coordinator isn't ready when it is first asked. The client looks for it again by itself, and the
    # worker logs commits that fail for want of a coordinator.
    no_coordinator_yet = text.startswith("Marking the coordinator dead") and _NO_COORDINATOR.search(text) is not None
    # The group's leader doesn't know topics yet that only other members read. It learns of them and assigns again.
    topics_to_learn = text.startswith("No partition metadata for topic")
    # Its IO thread may check a connection once more that another thread has just closed.
    error = record.exc_info[1] if record.exc_info else None
    read_after_close = isinstance(error, AttributeError) and "Error receiving network data" in text
    # It warns whenever its thread was delayed by 0.1 s, as on a busy machine: nothing that an operator can act on.
    held_up = record.name == "kafka.net.selector" and record.levelno < logging.ERROR
    moved = _MOVED.search(text) is not None and _FOR_A_REASON.search(text) is None
    return no_coordinator_yet or topics_to_learn or read_after_close or held_up or moved


# Leaders and coordinators move, as in each restart of a broker, and requests follow them; what is in flight when a
# client of ours is closed is cancelled; a commit isn't known while a transaction may change it, and is asked for again.
# The worker itself tells what it has lost when its group has put it out, which commits failed, where replicas are
# missing, and when it gives up a producer.
_NO_COORDINATOR = re.compile(r"(NotCoordinator|CoordinatorNotAvailable|CoordinatorLoadInProgress)Error")
_MOVED = re.compile(
    r"(NotLeaderForPartition|LeaderNotAvailable|FencedLeaderEpoch|UnknownLeaderEpoch|UnstableOffsetCommit)Error"
    r"|NotEnoughReplicas(AfterAppend)?Error"
    r"|coordinator \(node \S+\) is either not started or not valid|\bCancelled$"
    r"|member_id was not recognized|^OffsetCommit for group|^Rebalance listener .* took "
    r"|Aborting producer batches due to fatal error"
)


# Who speaks of connections, and what it says if a broker is away: the address, the network, or no answer; or that it
# knows no brokers, itself included, for it has just begun.
_ABOUT_CONNECTIONS = ("kafka.net.", "kafka.cluster", "kafka.coordinator", "kafka.consumer.fetcher", "kafka.producer")
_AWAY = re.compile(
    r"DNS (lookup failed|Resolution failure)|\b\d+ E[A-Z]+\b|\[Errno \d+\]|[Ss]ocket disconnected"
    r"|KafkaConnectionError(: ?\S*)?$|Node Disconnected|NodeNotReadyError|not ready; waiting"
    r"|No node available for metadata refresh|No broker metadata found"
)
_SILENT = re.compile(r"[Tt]imed out|KafkaTimeoutError|RequestTimedOutError")
_FOR_A_REASON = re.compile(r"ssl|sasl|tls|authenti|authori|certificate|token|password|kafka\.\w+_", re.IGNORECASE)


def _is_told_by_us(record: logging.LogRecord) -> bool:
    """Tell whether a record is about a broker that can't be reached or is lost, which the worker tells of itself."""
    if not record.name.startswith(_ABOUT_CONNECTIONS):
        return False
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:  # a traceback, if it isn't of the network
        return isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
    if _FOR_A_REASON.search(text):
        return False
    # Heartbeats that nobody answers, while fetches are answered, only kafka-python tells of.
    silent = not record.name.startswith("kafka.coordinator") and _SILENT.search(text) is not None
    return silent or _AWAY.search(text) is not None


def set_up(log_format: str) -> None:
    """Send the log to standard error; Kafka's client logs from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ClientFilter())
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kafka").setLevel(logging.WARNING)
