#!/usr/bin/env bash
# Create .venv and install the project, pinned by requirements.txt.
#   scripts/setup.sh run     what `make demo` and `make up` need
#   scripts/setup.sh dev     that, and what tests and checks need
# PYTHON names the interpreter (3.11 or newer). TORCH_INDEX_URL names a package index that has CPU builds of torch;
# without one, pip takes the first torch that its own configuration offers.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-dev}" in
run) extras="api,worker,embedded" ;;
dev) extras="dev" ;;
*) echo "usage: scripts/setup.sh [run|dev]" >&2; exit 2 ;;
esac

find_python() {
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "setup: no Python 3.11 or newer found; name one with PYTHON=/path/to/python" >&2
    return 1
}

# One line for each file that pip fetches; everything else goes to the log, which is shown if pip fails.
install() {
    if ! .venv/bin/pip install --disable-pip-version-check "$@" 2>&1 </dev/null | tee -a "$log" | show_progress; then
        echo "setup: pip failed; the end of $log:" >&2
        tail -n 15 "$log" >&2
        return 1
    fi
}

show_progress() {
    local line count=0
    while IFS= read -r line; do
        case "$line" in
        *Downloading*.whl* | *"Using cached"*.whl* | Processing*.whl)
            count=$((count + 1))
            line="${line##*/}"
            line="${line##* cached }"
            line="${line##*Downloading }"
            if [ -t 1 ]; then printf '\r\033[K  %3d  %s' "$count" "${line:0:80}"; fi
            ;;
        "Installing collected packages"*)
            if [ -t 1 ]; then printf '\r\033[K'; fi
            echo "       $count packages fetched, installing"
            ;;
        esac
    done
}

python="$(find_python)"
if [ ! -x .venv/bin/python ]; then
    echo "setup: virtual environment in .venv ($("$python" --version))"
    "$python" -m venv .venv
fi
log=.venv/setup.log
: >"$log"

torch="$(grep '^torch==' requirements.txt)"
if ! .venv/bin/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
    echo "setup: $torch (about 200 MB)"
    install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c requirements.txt "$torch"
fi
echo "setup: infill[$extras]"
install -c requirements.txt -e ".[$extras]"
echo "setup: done"
