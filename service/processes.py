"""What Linux says of processes: CPU time, memory, children; of the cores that this one may use, and its own memory."""

import ctypes
import os
from pathlib import Path

_PROC = Path("/proc")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# glibc gives threads that ask for memory at the same time arenas of their own, up to eight a core, and each keeps what
# its threads once needed at most: 53 MB after an hour of brokers' deaths and backlogs, where a new worker has 15. As
# only one thread runs Python at a time, there is little to gain from more than two.
ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h


def can_be_seen() -> bool:
    """Tell whether this system lets processes be looked at as Linux does."""
    return (_PROC / "self" / "stat").exists()


def cpu_seconds(pid: int) -> float:
    """Return what all threads of a process have taken of the CPU since its start, in hundredths of seconds.

    Raises OSError where there is no such process.
    """
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return a process's memory.

    Raises OSError where there is no such process.
    """
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child_of(pid: int) -> int | None:
    """Return the process that another one has started and waits for, if there is one."""
    for entry in _PROC.iterdir():
        try:
            if entry.name.isdecimal() and int(_stat(int(entry.name))[1]) == pid:
                return int(entry.name)
        except OSError:  # it has ended since it was listed
            continue
    return None


def usable_cores() -> float:
    """Return how many cores this process may use: those it may run on, or less by its control group's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return min(float(cores), int(quota) / int(period))
    except (OSError, ValueError):  # there is none, or it is "max"
        return float(cores)


def share_arenas() -> None:
    """Have the threads of this process share a few of malloc's arenas, where it is glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the program's name, which may hold anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
