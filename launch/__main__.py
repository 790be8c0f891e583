"""``python -m launch`` is the ``infill`` command."""

import sys

from launch.cli import main

sys.exit(main())
