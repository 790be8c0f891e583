#!/usr/bin/env bash
# Lint, format check, types. Needs `scripts/setup.sh dev`.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
