"""``python -m worker``: one worker process. What is wrong with its settings is said before torch is imported."""

import os
import sys

from jobs.catalog import load_catalog
from jobs.environment import begin
from jobs.errors import BadCredentials, BadModel
from jobs.listening import CannotListen, probe
from worker.pixels.credentials import credentials_of
from worker.settings import WorkerSettings

# OpenMP's threads wait for each other at every operation. Asleep they wake late; spinning for long, as they do by
# default, they are in the way of whatever else runs on the same cores. So they spin for some microseconds, then sleep.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2500")

# Both log past our handler, in lines that are not JSON; of a prompt that is too long they quote the part that is cut.
os.environ["DIFFUSERS_VERBOSITY"] = os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def main() -> int:
    settings = begin(WorkerSettings)
    try:
        if settings.metrics_port:
            probe(settings.metrics_host, settings.metrics_port)
        load_catalog(settings.catalog)
        credentials_of(settings)
    except BadCredentials as error:
        sys.exit(str(error))
    except CannotListen as error:
        sys.exit(f"INFILL_METRICS_HOST, INFILL_METRICS_PORT: {error}")
    except BadModel as error:
        sys.exit(f"INFILL_CATALOG: {error}")
    from worker.main import main as work

    return work(settings)


if __name__ == "__main__":
    sys.exit(main())
