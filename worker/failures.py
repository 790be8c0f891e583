"""Any exception of this process -> why the job failed, in the error tree's words. The one place of translation."""

import torch
from pydantic import ValidationError
from rq.exceptions import DeserializationError

from jobs.errors import InfillError, JobFailure, OutOfMemory, Undecodable
from jobs.schema import JobProblem


def failure_of(error: Exception) -> JobFailure:
    """The JobFailure that ``error`` amounts to. What nobody foresaw is ``internal_error``, which is tried again."""
    if isinstance(error, JobFailure):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory("The job does not fit into the device's memory, even alone; use a smaller crop or n.")
    if isinstance(error, ValidationError | DeserializationError):
        return Undecodable("The job's record cannot be read; it was not written by this version of the API.")
    if isinstance(error, InfillError):
        return Undecodable(str(error))
    failure = JobFailure(f"The worker failed with {type(error).__name__}.")
    failure.__cause__ = error
    return failure


def problem_of(failure: JobFailure) -> JobProblem:
    return JobProblem(code=failure.code, message=str(failure))
