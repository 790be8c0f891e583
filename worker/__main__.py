import os
import sys

# OpenMP threads that spin while they wait cost up to ten times the time where something else runs on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from worker.main import main

sys.exit(main())
