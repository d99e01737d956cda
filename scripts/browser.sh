#!/bin/sh
# Puts into place what tests of the pages need: Debian's chromium where none is there, Playwright and axe-core.
# Where that cannot be, it says why and ends well: those tests are then skipped, and say so too.
set -u
cd "$(dirname "$0")/.."
log=.venv/browser.log
: >"$log"

without() {
    printf 'make browser: %s; tests of the pages are skipped (all output: %s)\n' "$1" "$log"
    exit 0
}

browser() {
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" && return
    done
    return 1
}

if ! browser >/dev/null; then
    command -v apt-get >/dev/null || without "no chromium here, nor apt-get to install one"
    if [ "$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as="sudo -n"; else
        without "no chromium here, and only root can install one"
    fi
    export DEBIAN_FRONTEND=noninteractive
    # The lists of packages are fetched only where those that are here do not do.
    $as apt-get install -y --no-install-recommends chromium >>"$log" 2>&1 || {
        $as apt-get update >>"$log" 2>&1 && $as apt-get install -y --no-install-recommends chromium >>"$log" 2>&1
    } || without "chromium cannot be installed"
    browser >/dev/null || without "apt-get installed no chromium"
fi
if ! .venv/bin/python -c "import axe_playwright_python" 2>/dev/null; then
    if uv --version >/dev/null 2>&1; then set -- uv pip install --python .venv
    elif .venv/bin/uv --version >/dev/null 2>&1; then set -- .venv/bin/uv pip install --python .venv; else
        set -- .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off
    fi
    "$@" -c constraints.txt --group browser >>"$log" 2>&1 || without "Playwright cannot be installed"
fi
printf 'make browser: %s\n' "$("$(browser)" --version 2>/dev/null)"
