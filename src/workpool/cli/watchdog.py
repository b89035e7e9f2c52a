"""Ends its parent, if that does not end by itself: a program of its own, which nothing that hangs there holds up.

    python watchdog.py PID SECONDS <the signals of that process, as bytes

It reads the number of each signal that its parent gets, which the interpreter writes from C, whatever holds that up.
So many seconds after the first that asks for an end it kills the parent. It ends with it, and writes nothing: there
might be nobody who reads that.
"""

from __future__ import annotations

import os
import select
import signal
import sys

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(pid: int, seconds: float) -> None:
    for number in ENDS:  # whoever signals a whole group means the parent
        signal.signal(number, signal.SIG_IGN)
    parent = os.pidfd_open(pid)
    if os.getppid() == pid and _is_told_to_end(parent) and not _ends(parent, seconds):
        signal.pidfd_send_signal(parent, signal.SIGKILL)


def _is_told_to_end(parent: int) -> bool:
    """Wait for that; False when the parent has ended instead. Children of it may hold the other end of the pipe."""
    wait = select.poll()
    wait.register(parent, select.POLLIN)
    wait.register(0, select.POLLIN)
    while parent not in dict(wait.poll()):
        numbers = os.read(0, 64)
        if not numbers or any(number in numbers for number in ENDS):
            return bool(numbers)
    return False


def _ends(parent: int, seconds: float) -> bool:
    """Within that time."""
    wait = select.poll()
    wait.register(parent, select.POLLIN)
    return bool(wait.poll(seconds * 1000))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
