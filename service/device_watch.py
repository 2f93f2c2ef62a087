"""A device whose calls don't come back: its callers are told within a deadline, and the process ends all the same."""

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
# For the workers to leave Kafka in order once the device has been given up; then the process ends where it stands.
LAST_RESORT_S = 30.0


class DeviceHangsError(CoreError):
    """A call of the device did not come back in time; the text says what to do."""


class Patience:
    """Says when one call has been seen under way for so long that it hangs.

    It counts looks, one each `tick_s`, rather than a clock's seconds: a process that was frozen for a minute, or a
    machine that slept, has not waited for its device.
    """

    def __init__(self, deadline_s: float) -> None:
        self.tick_s = min(TICK_S, deadline_s / 4)
        self._looks = math.ceil(deadline_s / self.tick_s)
        self._call: int | None = None
        self._seen = 0

    def ends_with(self, call: int | None) -> bool:
        """Take in which call is under way now; tell whether it hangs."""
        self._seen = self._seen + 1 if call is not None and call == self._call else 0
        self._call = call
        return self._seen >= self._looks


class Watchdog(threading.Thread):
    """Looks at a core until it is closed, and gives it up when its device hangs."""

    def __init__(self, core: Core, deadline_s: float) -> None:
        super().__init__(name="device-watchdog", daemon=True)
        self._core = core
        self._deadline_s = deadline_s
        self._closed = threading.Event()

    def run(self) -> None:
        """Look until closed."""
        patience = Patience(self._deadline_s)
        while not self._closed.wait(patience.tick_s):
            if patience.ends_with(self._core.call_under_way):
                self._give_up()
                return

    def close(self) -> None:
        """Look no more."""
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
    """Watch a core that whoever is inside uses and closes; afterwards see that it can't keep the process from ending.

    A thread that is stuck in a device's driver, or what frees the memory of a lost GPU, can hold up the end of the
    interpreter for ever, or abort it. Then Python's own clean-up is the last that is done.
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
    """End the process without the clean-up of native libraries, with all that has been said written out."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
