"""Runs a command that does not outlive whoever started it, however that dies.

    python tethered.py PARENT PROGRAM ARGUMENT ...

ties itself to the process PARENT (``prctl(PR_SET_PDEATHSIG)``, which only Linux has; elsewhere it ties nothing) and
becomes PROGRAM. A ``preexec_fn`` would do the same, but forks Python from a process that may have threads.
"""

import os
import sys


def tethered(command: list[str]) -> list[str]:
    """The command that runs ``command`` tied to this process. Start it from the main thread, which the tie is to."""
    return [sys.executable, "-IS", __file__, str(os.getpid()), *command]


if __name__ == "__main__":
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        import ctypes
        import signal

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the line above
            sys.exit(1)
    os.execvp(program, [program, *arguments])
