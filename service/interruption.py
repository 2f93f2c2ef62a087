"""Being told to stop by a signal: what raises, what sets an event, and what hears the first alone."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT raise KeyboardInterrupt; those that follow find what is being stopped already."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    # Once is enough: a second signal would break off the stopping.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def exit_on_sigterm(status: int = 0) -> Iterator[threading.Event]:
    """Let SIGTERM raise, as Python lets SIGINT: kafka-python waits up to ten seconds for a broker.

    Gives an event that tells whether it came, for what is raised in a destructor, say, ends nothing.
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
    """Give an event that SIGTERM or SIGINT sets; it may have been set before."""
    stop = stop or threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
