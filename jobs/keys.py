"""Every Redis key that is ours. RQ's own keys begin with ``rq:``."""

CHANGES = "infill:changes"
"""Pub/sub channel: the id of each job that started or stepped."""

ENDS = "infill:ends"
"""Pub/sub channel: the id of each job that ended."""

ENDED = "infill:ended"
"""List of the times (unix seconds) at which the latest jobs ended, newest first: the measured drain rate."""

RESERVED = "infill:reserved"
"""Hash: the bytes that each accepted job's results may take at most; a job's entry goes when its end is noted."""

PROBE = "infill:probe"
"""Written to see whether Redis takes writes; nobody reads it."""

WORKERS = "infill:workers"
"""Set of the names of workers that have announced themselves; each one's presence key says whether it lives."""


def image(job_id: str) -> str:
    """The uploaded image, as it came."""
    return f"infill:{job_id}:image"


def mask(job_id: str) -> str:
    """The settled mask: a grey PNG of the upright image's size, white = repaint."""
    return f"infill:{job_id}:mask"


def caller(job_id: str) -> str:
    """Whose job it is: a digest of the caller's API key; absent for a caller without one."""
    return f"infill:{job_id}:caller"


def work(job_id: str) -> str:
    """What the job asks of a network, as JSON (``jobs/work.py``): what it will cost is computed from it."""
    return f"infill:{job_id}:work"


def result(job_id: str, index: int) -> str:
    """Result image ``index`` as encoded."""
    return f"infill:{job_id}:result:{index}"


def progress(job_id: str) -> str:
    """Hash: attempt, step, steps, eta_ms, loading."""
    return f"infill:{job_id}:progress"


def cancel(job_id: str) -> str:
    """Set by the API when a caller cancels the job; read by the worker at every step boundary."""
    return f"infill:{job_id}:cancel"


def idempotency(key_digest: str) -> str:
    """``<job id>:<fingerprint of the request>`` for an idempotency key."""
    return f"infill:idempotency:{key_digest}"


def widths(source: str) -> str:
    """The widths of the layers of a model from ``source``, as JSON; written by the workers that have it loaded."""
    return f"infill:widths:{source}"


def schedulers(source: str) -> str:
    """The noise schedulers that fit a model from ``source``, as JSON; written by the workers that have it loaded."""
    return f"infill:schedulers:{source}"


def pace(worker_name: str) -> str:
    """How fast a living worker is, as JSON (``jobs/pace.py``); expires with its lease."""
    return f"infill:pace:{worker_name}"


def presence(worker_name: str) -> str:
    """A living worker's description of itself; expires with its lease."""
    return f"infill:worker:{worker_name}"
