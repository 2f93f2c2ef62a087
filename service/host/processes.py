"""Processes on Linux: CPU time, memory and children of any; usable cores and malloc arenas of this one."""

import ctypes
import os
from pathlib import Path

_PROC = Path("/proc")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# glibc gives threads that allocate at the same time separate arenas, up to eight a core, and each arena keeps the most
# that its threads ever needed: 53 MB after an hour of broker crashes and backlogs, where a new worker has 15 MB. Only
# one thread runs Python at a time, so there is little to gain from more than two.
ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h


def can_be_seen() -> bool:
    """Return whether this system shows processes the way Linux does (/proc)."""
    return (_PROC / "self" / "stat").exists()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process since its start, with a resolution of 0.01 s.

    Raises OSError if there is no such process.
    """
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory.

    Raises OSError if there is no such process.
    """
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child_of(pid: int) -> int | None:
    """Return the child process of another one, if there is one."""
    for entry in _PROC.iterdir():
        try:
            if entry.name.isdecimal() and int(_stat(int(entry.name))[1]) == pid:
                return int(entry.name)
        except OSError:  # it has ended meanwhile
            continue
    return None


def usable_cores() -> float:
    """Return how many cores this process may use: its CPU affinity, or less by its control group's quota."""
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
    """Make the threads of this process share a few malloc arenas, if malloc is glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name, which may hold any character."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
