"""Worker processes of one group, and a supervisor that starts again what ends."""

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.kafka.worker_process import STOPPED_WITHIN_S, WorkerProcess

WATCH_S = 0.2
SLICE_S = 0.01
GIVEN_UP = re.compile(r"takes no such record .*'source-partition': '(\d+)', 'source-offset': '(\d+)'")


@dataclass(frozen=True)
class Ended:
    """A worker that ended though nobody had asked it to."""

    number: int
    status: int
    last_line: str


class Fleet:
    """Workers by number, each a process with its own log and with the flags that all share, or flags of its own.

    One that ends by itself is started again, as a supervisor would, and noted in ``ended``.
    """

    def __init__(self, kind: str, flags: Iterable[str], folder: Path) -> None:
        self.ended: list[Ended] = []
        self.killed = 0
        self._kind = kind
        self._flags = tuple(flags)
        self._folder = folder
        self._workers: dict[int, WorkerProcess] = {}
        self._own_flags: dict[int, tuple[str, ...]] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._supervisor.join()
        for worker in self._workers.values():
            if worker.process.poll() is None:
                worker.kill()

    def __getitem__(self, number: int) -> WorkerProcess:
        return self._workers[number]

    def numbers(self) -> list[int]:
        """Return which workers there are."""
        return sorted(self._workers)

    def start(self, *numbers: int, flags: tuple[str, ...] = (), ready: bool = True) -> None:
        """Start these workers, and wait until they have joined unless ``ready`` is false."""
        with self._lock:
            for number in numbers:
                self._own_flags[number] = flags
                self._start(number)
        for number in numbers if ready else ():
            self._workers[number].wait_until_ready()

    def kill(self, number: int) -> None:
        """End a worker by SIGKILL, whatever it is at, and start it again."""
        with self._lock:
            self._workers[number].kill()
            self.killed += 1
            self._start(number)

    def freeze(self, number: int) -> None:
        """Stop a worker in its tracks."""
        self._workers[number].process.send_signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let it go on."""
        self._workers[number].process.send_signal(signal.SIGCONT)

    @contextmanager
    def frozen(self, *numbers: int) -> Iterator[None]:
        """Have workers stand still."""
        for number in numbers:
            self.freeze(number)
        try:
            yield
        finally:
            for number in numbers:
                self.thaw(number)

    @contextmanager
    def slowed(self, number: int) -> Iterator[None]:
        """Let a worker have a thirtieth of the time, as on a machine that is far too slow for it."""
        over = threading.Event()

        def hold_back() -> None:
            while not over.wait(SLICE_S):
                self.freeze(number)
                over.wait(29 * SLICE_S)
                self.thaw(number)

        holding_back = threading.Thread(target=hold_back, name="slowed")
        holding_back.start()
        try:
            yield
        finally:
            over.set()
            holding_back.join()

    def stop(self, *numbers: int) -> list[int]:
        """Ask these workers to end, all at once, and return their statuses."""
        with self._lock:
            stopped = [self._workers.pop(number) for number in numbers]
            for worker in stopped:
                worker.process.send_signal(signal.SIGTERM)
        return [worker.process.wait(STOPPED_WITHIN_S) for worker in stopped]

    def stop_all(self) -> list[int]:
        """Wait until all have joined, ask all to end at once, and return their statuses."""
        for number in self.numbers():
            self._workers[number].wait_until_ready()
        return self.stop(*self.numbers())

    def wait_until_said(self, words: str, *, within_s: float = 60) -> None:
        """Wait until the log of some worker holds these words."""
        deadline = time.monotonic() + within_s
        while words not in self.said():
            assert time.monotonic() < deadline, f"nobody has said {words!r} in {within_s} s:\n{self.said()[-3000:]}"
            time.sleep(0.1)

    def wait_until_ended(self, times: int, *, within_s: float = 60) -> None:
        """Wait until so many workers have ended by themselves."""
        deadline = time.monotonic() + within_s
        while len(self.ended) < times:
            assert time.monotonic() < deadline, f"{self.ended} ended in {within_s} s, not {times}"
            time.sleep(0.1)

    def said(self) -> str:
        """Return the logs of all, one after the other."""
        return "".join(log.read_text(errors="replace") for log in sorted(self._folder.glob(f"{self._kind}-*.log")))

    def given_up(self) -> Counter[tuple[int, int]]:
        """Return the records, by partition and offset, of the dead letters that the logs say no topic takes."""
        return Counter((int(partition), int(offset)) for partition, offset in GIVEN_UP.findall(self.said()))

    def _start(self, number: int) -> None:
        log = self._folder / f"{self._kind}-{number}.log"
        self._workers[number] = WorkerProcess(log, *self._flags, *self._own_flags[number], kind=self._kind)

    def _supervise(self) -> None:
        while not self._closing.wait(WATCH_S):
            with self._lock:
                for number, worker in self._workers.items():
                    status = worker.process.poll()
                    if status is not None:
                        last_line = (worker.said().splitlines() or [""])[-1]
                        self.ended.append(Ended(number, status, last_line))
                        self._start(number)
