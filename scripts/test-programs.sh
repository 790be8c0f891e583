#!/usr/bin/env bash
# Programs that some tests run, from Debian's packages: nginx, a Redis that speaks TLS, a compiler, Chromium, Node,
# ExifTool.
# No service is started.
#   scripts/test-programs.sh [PROGRAM=PACKAGE ...]     see that they are there; without arguments, those of our tests
#   scripts/test-programs.sh --names                   print the names of those of our tests
# Exit status: 0, all of them are there; 3, some are missing and cannot be installed here, without root or apt-get: the
# tests that need them skip; 1, some are missing although root and apt-get are at hand: something is wrong.
set -uo pipefail
PATH="$PATH:/usr/sbin:/sbin"

ours=(nginx=nginx-light redis-server=redis-server openssl=openssl curl=curl g++=g++ chromium=chromium node=nodejs npm=npm
    exiftool=libimage-exiftool-perl)
if [ "${1:-}" = --names ]; then
    echo "${ours[@]%%=*}"
    exit 0
fi
wanted=("${@:-${ours[@]}}")
missing() {
    for pair in "${wanted[@]}"; do
        command -v "${pair%%=*}" >/dev/null || echo "${pair#*=}"
    done
}
mapfile -t packages < <(missing)
if [ ${#packages[@]} -eq 0 ]; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-programs: no ${packages[*]}, and no root or no apt-get to install them; the tests that need them skip"
    exit 3
fi

log="$(mktemp)"
policy=/usr/sbin/policy-rc.d # asked by Debian's packages before they start a service
made_policy=
trap 'rm -f "$log" $made_policy' EXIT
apt() { timeout 300 apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" >>"$log" 2>&1 </dev/null; }
install() {
    if [ ! -e "$policy" ]; then
        made_policy="$policy"
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt install -y --no-install-recommends "${packages[@]}"
}
if apt update && install && [ -z "$(missing)" ]; then
    echo "test-programs: installed ${packages[*]}"
    exit 0
fi
echo "test-programs: ${packages[*]} could not be installed, though there are root and apt-get. apt-get said:" >&2
tail -n 10 "$log" >&2
exit 1
