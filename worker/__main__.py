import os
import sys

# OpenMP's threads wait for each other at every operation. Asleep they wake late; spinning for long, as they do by
# default, they are in the way of whatever else runs on the same cores. So they spin for some microseconds, then sleep.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2500")

from worker.main import main

sys.exit(main())
