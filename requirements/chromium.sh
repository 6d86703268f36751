#!/bin/sh
# Installs Debian's or Ubuntu's Chromium, unless there is one; only the page's tests need it.
set -eu

for program in chromium chromium-browser google-chrome; do
    if command -v "$program" >/dev/null 2>&1; then
        exit 0
    fi
done
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The page's tests need Chromium: install it, as chromium on the PATH." >&2
    exit 1
fi
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq
$as_root apt-get install --yes -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
