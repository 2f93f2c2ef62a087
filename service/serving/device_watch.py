"""A watchdog for the inference device: if a call hangs, its callers get an error, and the process can still end."""

import atexit
import logging
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from inference.core import Core
from inference.lanes import CoreError

log = logging.getLogger(__name__)

TICK_S = 0.25
# Once the device has been given up, the workers have so long to leave Kafka in order. Then the process is ended.
LAST_RESORT_S = 30.0


class DeviceHangsError(CoreError):
    """A call of the device did not return in time; the text says what to do."""


class HangDetector:
    """Detects a call that has been under way for the deadline.

    It counts checks, one each `tick_s`, rather than seconds: a process that was frozen for a minute, or a machine that
    slept, has not waited for its device.
    """

    def __init__(self, deadline_s: float) -> None:
        self.tick_s = min(TICK_S, deadline_s / 4)
        self._looks = math.ceil(deadline_s / self.tick_s)
        self._call: int | None = None
        self._seen = 0

    def hangs(self, call: int | None) -> bool:
        """Return whether the call that is under way now hangs; called each `tick_s`."""
        self._seen = self._seen + 1 if call is not None and call == self._call else 0
        self._call = call
        return self._seen >= self._looks


class Watchdog(threading.Thread):
    """Watches a core until closed, and gives it up if its device hangs."""

    def __init__(self, core: Core, deadline_s: float) -> None:
        super().__init__(name="device-watchdog", daemon=True)
        self._core = core
        self._deadline_s = deadline_s
        self._closed = threading.Event()

    def run(self) -> None:
        """Watch until closed."""
        detector = HangDetector(self._deadline_s)
        while not self._closed.wait(detector.tick_s):
            if detector.hangs(self._core.call_under_way):
                self._give_up()
                return

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self.join(TICK_S)

    def _give_up(self) -> None:
        error = DeviceHangsError(
            f"the device {self._core.device_name} has not answered a batch within {self._deadline_s:g} s "
            f"(inference.deadline_s): see to it, or raise the deadline if its batches really take so long"
        )
        log.critical("%s", error)
        self._core.give_up(error)
        if not self._closed.wait(LAST_RESORT_S):
            log.critical("the workers have not ended within %g s of it: the process ends here", LAST_RESORT_S)
            end_now(1)


@contextmanager
def watched(core: Core, deadline_s: float) -> Iterator[None]:
    """Watch a core while the body uses and closes it; afterwards make sure that it can't keep the process from ending.

    A thread stuck in a device's driver, or the code that frees the memory of a lost GPU, can block the exit of the
    interpreter for ever, or abort it. In that case the process ends right after Python's own clean-up.
    """
    watchdog = Watchdog(core, deadline_s)
    watchdog.start()
    status = 1
    try:
        yield
        status = 0
    finally:
        watchdog.close()
        if not core.ended_cleanly:
            atexit.register(end_now, status)


def end_now(status: int) -> None:
    """End the process without the clean-up of native libraries, after flushing logs and output."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
