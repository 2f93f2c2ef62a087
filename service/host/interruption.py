"""Handlers of SIGTERM and SIGINT: raise an exception, set an event, or react to the first signal only."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Make the first SIGTERM or SIGINT raise KeyboardInterrupt; later ones are ignored."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    # Once only: a second signal would interrupt the clean-up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def exit_on_sigterm(status: int = 0) -> Iterator[threading.Event]:
    """Make SIGTERM raise, as SIGINT does in Python: kafka-python waits up to ten seconds for a broker.

    Yields an event that says whether it came, because an exception in a destructor, for example, ends nothing.
    """
    came = threading.Event()

    def exit_cleanly(*_: object) -> NoReturn:
        came.set()
        raise SystemExit(status)

    previous = signal.signal(signal.SIGTERM, exit_cleanly)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_on_signals(stop: threading.Event | None = None) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets; it may have been set before."""
    stop = stop or threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
