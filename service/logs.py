"""Log lines, one for each event, for people (text) or programs (JSON)."""

import json
import logging
import sys
import time
from collections.abc import Callable

CLIENT_REPEATS_S = 60.0


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

    A repetition is a record from the same line of source code, whatever its text. The next one that passes says how
    many did not. Records of all other loggers pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[tuple[str, int], float] = {}
        self._left_out: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if not record.name.startswith("kafka."):
            return True
        if _is_normal(record):
            return False
        place, now = (record.pathname, record.lineno), self._clock()
        if now - self._last.get(place, float("-inf")) < CLIENT_REPEATS_S:
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return False
        self._last[place] = now
        left_out = self._left_out.pop(place, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like it were left out before)", ()
        return True


def _is_normal(record: logging.LogRecord) -> bool:
    """Return whether a record is about something that happens at each start or end and needs no action."""
    text = record.getMessage()
    # A new group's coordinator isn't ready when it is first asked. The client looks for it again by itself, and the
    # worker logs commits that fail for want of a coordinator.
    no_coordinator_yet = text.startswith("Marking the coordinator dead") and "NotCoordinatorError" in text
    # The group's leader doesn't know topics yet that only other members read. It learns of them and assigns again.
    topics_to_learn = text.startswith("No partition metadata for topic")
    # Its IO thread may check a connection once more that another thread has just closed.
    error = record.exc_info[1] if record.exc_info else None
    read_after_close = isinstance(error, AttributeError) and "Error receiving network data" in text
    # It warns whenever its thread was delayed by 0.1 s, as on a busy machine: nothing that an operator can act on.
    held_up = record.name == "kafka.net.selector" and record.levelno < logging.ERROR
    return no_coordinator_yet or topics_to_learn or read_after_close or held_up


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
