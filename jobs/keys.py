"""Every Redis key that is ours. RQ's own keys begin with ``rq:``."""

CHANGES = "infill:changes"
"""Pub/sub channel: the id of each job that started or stepped."""

ENDS = "infill:ends"
"""Pub/sub channel: the id of each job that ended."""

ENDED = "infill:ended"
"""List of the times (unix seconds) at which the latest jobs ended, newest first: the measured drain rate."""

RESERVED = "infill:reserved"
"""Hash: the bytes that each accepted job's results may take at most; a job's entry goes when its end is recorded."""

PROBE = "infill:probe"
"""Written to see whether Redis takes writes; never read."""

DELIVERIES = "infill:deliveries"
"""Sorted set: ``<job id>:<number>`` of what is to be sent out, by the time when it is due (``jobs/deliveries.py``)."""

BATCHES = "infill:batches"
"""Sorted set: the ids of batches that have not ended, by the time they were made (``jobs/batches.py``)."""

BATCH_FEEDER = "infill:batch-feeder"
"""The API process that feeds batches into the queue, as machine:process:token; expires with its lease."""

API_KEYS = "infill:api-keys"
"""Hash: a key's id -> its record (``jobs/api_keys.py``)."""

USED_MASK = "used-mask"
"""Name of a picture: the mask of a job once more, which callers can read as long as its results."""

WORKERS = "infill:workers"
"""Set of the names of workers that have announced themselves; a worker lives while its presence key exists."""


def jobs_of(caller: str) -> str:
    """Sorted set: the ids of a tenant's jobs by the time they were queued (``jobs/job_index.py``)."""
    return f"infill:jobs-of:{caller}"


def batches_of(caller: str) -> str:
    """Sorted set: the ids of a tenant's batches by the time they were made."""
    return f"infill:batches-of:{caller}"


def unfinished_batches_of(caller: str) -> str:
    """Set: the ids of a caller's batches that have not ended."""
    return f"infill:unfinished-batches-of:{caller}"


def batch(batch_id: str) -> str:
    """Hash: a batch's record, how many of its lines have been fed, its state and when that changed."""
    return f"infill:{batch_id}"


def batch_jobs(batch_id: str) -> str:
    """Hash: number of a line that has become a job -> that job; until its outcome is written."""
    return f"infill:{batch_id}:jobs"


def batch_outcomes(batch_id: str) -> str:
    """Hash: number of a line -> its outcome."""
    return f"infill:{batch_id}:outcomes"


def batch_ended(batch_id: str, status: str) -> str:
    """Bitmap: the lines that have ended so. Setting a bit twice counts once."""
    return f"infill:{batch_id}:{status}"


def uploaded_file(file_id: str) -> str:
    """The record of an uploaded file, as JSON (``jobs/uploaded_files.py``); expires with it."""
    return f"infill:{file_id}"


def uploaded_files_of(caller: str) -> str:
    """Sorted set: the ids of a caller's uploaded files, by the time they expire."""
    return f"infill:files-of:{caller}"


def unfinished_of(caller: str) -> str:
    """Set: the ids of a caller's jobs that wait or run, where their number is limited (``jobs/quota.py``)."""
    return f"infill:unfinished-of:{caller}"


def pixels_of(caller: str, day: int) -> str:
    """Pixels of results that a caller has asked for on a day, counted from 1970 (``jobs/quota.py``)."""
    return f"infill:pixels-of:{caller}:{day}"


def a1111(caller: str) -> str:
    """Hash: the model that a caller of ``/sdapi/v1`` has chosen, and its latest job there."""
    return f"infill:a1111:{caller}"


def deliveries_of(job_id: str) -> str:
    """Hash: number of a delivery -> its state, tries and latest error, as JSON."""
    return f"infill:{job_id}:deliveries"


def picture(job_id: str, name: str) -> str:
    """An encoded picture, by its name: an input (``image``, ``mask``), ``used-mask`` or ``result:<index>``.

    The image is as it came; the mask is a grey PNG of the upright image's size, white = repaint.
    """
    return f"infill:{job_id}:{name}"


def caller(job_id: str) -> str:
    """Whose job it is: a digest of the caller's API key; absent for a caller without one."""
    return f"infill:{job_id}:caller"


def priority(job_id: str) -> str:
    """``low``; absent for a job of normal priority."""
    return f"infill:{job_id}:priority"


def workload(job_id: str) -> str:
    """What the job asks of a network, as JSON (``jobs/eta.py``); its cost is computed from it."""
    return f"infill:{job_id}:workload"


def result(job_id: str, index: int) -> str:
    """Result image ``index`` as encoded."""
    return picture(job_id, result_name(index))


def result_name(index: int) -> str:
    return f"result:{index}"


def progress(job_id: str) -> str:
    """Hash: attempt, step, steps, eta_ms, loading, preview_step."""
    return f"infill:{job_id}:progress"


def cancel(job_id: str) -> str:
    """Set by the API when a caller cancels the job; read by the worker at every step boundary."""
    return f"infill:{job_id}:cancel"


def preview_wish(job_id: str) -> str:
    """Set by the API when somebody asks for the job's previews; read by the worker with the cancel flag."""
    return f"infill:{job_id}:preview-wish"


def preview(job_id: str) -> str:
    """The job's latest preview, as JSON (``jobs/previews.py``)."""
    return f"infill:{job_id}:preview"


def idempotency(key_digest: str) -> str:
    """``<job id>:<fingerprint of the request>`` for an idempotency key."""
    return f"infill:idempotency:{key_digest}"


def widths(source: str) -> str:
    """The widths of the layers of a model from ``source``, as JSON; written by the workers that have it loaded."""
    return f"infill:widths:{source}"


def schedulers(source: str) -> str:
    """The noise schedulers that fit a model from ``source``, as JSON; written by the workers that have it loaded."""
    return f"infill:schedulers:{source}"


def speed(worker_name: str) -> str:
    """How fast a living worker is, as JSON (``jobs/speed.py``); expires with its lease."""
    return f"infill:speed:{worker_name}"


def presence(worker_name: str) -> str:
    """A living worker's description of itself; expires with its lease."""
    return f"infill:worker:{worker_name}"
