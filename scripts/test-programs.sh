#!/usr/bin/env bash
# Programs that some tests run, from Debian's packages: nginx, a Redis that speaks TLS, and Chromium. Installed where
# root and apt-get are at hand; elsewhere nothing happens and those tests skip. Never fails. No service is started.
set -uo pipefail
PATH="$PATH:/usr/sbin:/sbin"

packages=()
command -v nginx >/dev/null || packages+=(nginx-light)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v openssl >/dev/null || packages+=(openssl)
command -v chromium >/dev/null || packages+=(chromium) # about 110 MB
if [ ${#packages[@]} -eq 0 ]; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-programs: no ${packages[*]}; the tests that need them skip"
    exit 0
fi

policy=/usr/sbin/policy-rc.d # asked by Debian's packages before they start a service
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
log="$(mktemp)"
apt() { timeout 300 apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null; }
export DEBIAN_FRONTEND=noninteractive
apt update
for package in "${packages[@]}"; do # one by one: what cannot be had keeps no other out
    if apt install -y --no-install-recommends "$package"; then
        echo "test-programs: installed $package"
    else
        echo "test-programs: $package could not be installed; the tests that need it skip. apt-get said:"
        tail -n 3 "$log"
    fi
done
rm -f "$log"
exit 0
