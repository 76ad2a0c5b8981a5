#!/bin/sh
# The browser tests drive the distribution's own Chromium. Where there is none it is installed if that takes no
# question (root on Debian or Ubuntu); elsewhere the tests are skipped, and this says how to get it.
set -u
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium for the browser tests."
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } \
        </dev/null >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    tail -5 "$log"
    rm -f "$log"
fi
echo "There is no Chromium on this machine: the browser tests will be skipped."
echo "To run them, install it (Debian: apt-get install chromium) and run make test again."
