"""A client of the Infill inpainting service, synchronous and asynchronous.

::

    from infill_client import Client

    with Client("http://127.0.0.1:8000") as infill:
        result = infill.edit("photo.jpg", mask="mask.png", prompt="a wooden bench", seed=7)
        result.save("result.png")
"""

from infill_client.client import AsyncClient, Client
from infill_client.errors import ClientError, JobEnded, NoAnswer, Problem, TimedOut
from infill_client.records import Job, Result

__all__ = ["AsyncClient", "Client", "ClientError", "Job", "JobEnded", "NoAnswer", "Problem", "Result", "TimedOut"]
