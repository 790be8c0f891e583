import os
import sys

# OpenMP's threads wait for each other at every operation. Asleep they wake late; spinning for long, as they do by
# default, they are in the way of whatever else runs on the same cores. So they spin for some microseconds, then sleep.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2500")

# Both log past our handler, in lines that are not JSON; of a prompt that is too long they quote the part that is cut.
os.environ["DIFFUSERS_VERBOSITY"] = os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from worker.main import main

sys.exit(main())
