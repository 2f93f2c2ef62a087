"""What a process does to itself is looked at in one of its own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Twelve threads hold memory at the same time. An arena that is not the first lies at a multiple of 64 MiB.
COUNT_ARENAS = """
import ctypes, sys, threading
from service.host.processes import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
malloc = ctypes.CDLL(None).malloc
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
places, together = [], threading.Barrier(12)

def hold():
    together.wait()
    places.append(malloc(50_000))
    together.wait()

threads = [threading.Thread(target=hold) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len({place >> 26 for place in places}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no such arenas: run it on a system with glibc")
def test_threads_share_two_arenas() -> None:
    """Each kept what its thread once needed: a worker of an hour had 35 MB more than a new one."""

    def arenas(how: str) -> int:
        command = [sys.executable, "-c", COUNT_ARENAS, how]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert arenas("shared") <= 3  # the first may lie across such a multiple
    assert arenas("apart") > 3
