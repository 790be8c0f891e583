"""Functions that read hostile bytes, run in child processes with limits; ``docs/design/sandbox.md``.

::

    pool.py     Sandbox: a warm pool; ``call`` is thread-safe, blocking, and bounded
    process.py  one child process, as its parent sees it
    child.py    the child: ``python -m jobs.sandbox.child``
    wire.py     what goes between them: JSON over a socket, bytes in shared memory
    errors.py   Limits, and what ends a call without an answer

The child loads nothing but the standard library, ``jobs.errors`` and its function's module.
"""
