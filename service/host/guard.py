"""Runs a command and ends it when standard input closes: when the process that started it died or closed it.

Arguments: the seconds of grace between asking the command to end and killing it, then the command.

It is run by path with `python -I`, so it needs nothing but the standard library. A closing pipe shows a parent's death
however it died, on every system, and whichever of its threads started the guard. The command is the guard's own child,
so its process id can't belong to another process by the time it is signalled.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_when_input_closes(command: subprocess.Popen[bytes], grace_s: float) -> None:
    # Not sys.stdin: a thread that waits in its buffer makes the interpreter abort at exit.
    while os.read(0, 4096):
        pass
    command.terminate()
    try:
        command.wait(grace_s)
    except subprocess.TimeoutExpired:
        command.kill()


def main(grace_s: float, arguments: list[str]) -> int:
    """Run the command; return its exit status, or 128 + n if signal n ended it.

    Once standard input closes, the command is told to end (SIGTERM), and killed after `grace_s` seconds.
    """
    started: list[subprocess.Popen[bytes]] = []
    asked = threading.Event()

    def end(*_: object) -> None:
        asked.set()
        for command in started:
            command.terminate()

    # A signal to the guard must not leave the command behind, not even one that comes while the command starts.
    # (Ignoring the signal would make the command ignore it, too.)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    command = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    started.append(command)
    if asked.is_set():
        command.terminate()
    threading.Thread(target=_end_when_input_closes, args=(command, grace_s), daemon=True).start()
    status = command.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
