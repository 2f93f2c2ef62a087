"""What a process takes of its machine, sampled while it runs."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at one process."""

    at_s: float
    rss_mb: float
    threads: int
    descriptors: int


def look(pid: int) -> Vitals | None:
    """Read /proc; None where the process has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    if "VmRSS" not in status:
        return None
    return Vitals(time.monotonic(), int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), descriptors)


class Watch(threading.Thread):
    """Looks at processes, whose ids ``pids`` gives by name, every half a second until it is left."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], every_s: float = SAMPLE_S) -> None:
        super().__init__(name="watch", daemon=True)
        self.lives: dict[tuple[str, int], list[Vitals]] = {}
        self._pids = pids
        self._every_s = every_s
        self._done = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Look on."""
        while not self._done.wait(self._every_s):
            for name, pid in self._pids().items():
                if (vitals := look(pid)) is not None:
                    self.lives.setdefault((name, pid), []).append(vitals)


@dataclass(frozen=True, slots=True)
class Growth:
    """How the last third of a process's life differs from the first, by medians; ``first`` are those of the first."""

    first: Vitals
    rss_mb: float
    threads: float
    descriptors: float
    lived_s: float

    def __str__(self) -> str:
        return (
            f"{self.lived_s:.0f} s: memory {self.first.rss_mb:.0f} MB {self.rss_mb:+.0f}, "
            f"threads {self.first.threads} {self.threads:+.0f}, descriptors {self.first.descriptors} "
            f"{self.descriptors:+.0f}"
        )


def growth(life: Iterable[Vitals], *, settled_s: float) -> Growth | None:
    """Compare the thirds of what was seen after so many seconds; None where there is too little of it."""
    seen = list(life)
    seen = [each for each in seen if each.at_s >= seen[0].at_s + settled_s]
    third = len(seen) // 3
    if third < 3:
        return None
    first, last = _median(seen[:third]), _median(seen[-third:])
    return Growth(
        first,
        last.rss_mb - first.rss_mb,
        last.threads - first.threads,
        last.descriptors - first.descriptors,
        seen[-1].at_s - seen[0].at_s,
    )


def memory_course(life: Sequence[Vitals], parts: int = 12) -> list[float]:
    """Return the median memory of each of so many parts of a life, in MB: a step looks other than a leak."""
    size = max(1, len(life) // parts)
    starts = range(0, min(size * parts, len(life)), size)
    return [statistics.median(each.rss_mb for each in life[at : at + size]) for at in starts]


def _median(seen: list[Vitals]) -> Vitals:
    return Vitals(
        seen[0].at_s,
        statistics.median(each.rss_mb for each in seen),
        int(statistics.median(each.threads for each in seen)),
        int(statistics.median(each.descriptors for each in seen)),
    )
