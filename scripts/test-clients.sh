#!/usr/bin/env bash
# Clients of other services that tests/e2e run against ours, generators of clients, and axe-core, which looks at our
# page, into build/clients: packages of npm by tests/clients/package-lock.json, of PyPI by tests/clients/requirements.txt,
# apart from the project's own packages.
# Needs npm and .venv. Does nothing where they are there already; two runs at once are one.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/clients
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
wanted="$(cat tests/clients/* | sha256sum) $(node --version)"
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
cp tests/clients/package.json tests/clients/package-lock.json "$folder"
npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
rm -rf "$folder/python"
.venv/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps \
    --target "$folder/python" --requirement tests/clients/requirements.txt
echo "$wanted" >"$folder/installed"
