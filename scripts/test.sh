#!/usr/bin/env bash
# Run the tests; arguments go to pytest. Needs `scripts/setup.sh dev`.
# Three processes with one torch thread each, for two cores, as many tests wait. Files stay together, as their tests share
# a Redis or a model, and go out in the order of tests/conftest.py, not by their number of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest -n "${TEST_PROCESSES:-3}" --dist loadfile --no-loadscope-reorder "$@" </dev/null
