"""Translates any exception of this process into a JobFailure. No other module does."""

from pydantic import ValidationError
from rq.exceptions import DeserializationError

from jobs.errors import InfillError, JobFailure, OutOfMemory, Undecodable
from jobs.schema import JobProblem
from worker.denoise.device import is_out_of_memory


def failure_of(error: Exception) -> JobFailure:
    """The JobFailure for ``error``. An unexpected error becomes ``internal_error``, which is tried again."""
    if isinstance(error, JobFailure):
        return error
    if is_out_of_memory(error):
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
