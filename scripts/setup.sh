#!/bin/sh
# Makes .venv and installs Reslab with its tools into it, at the versions in constraints.txt.
# Uses uv where it is, else python3 -m venv and a uv that pip puts into it: that takes half of pip's time. Where uv
# cannot be had, or cannot reach what pip reaches (pip's own settings name its registry), pip goes on.
# PYTHON=... chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

die() {
    printf 'make setup: %s\n' "$1" >&2
    exit 1
}

# Asks by running, not by looking on PATH: version managers leave shims there that do not work.
works() { "$@" >/dev/null 2>&1; }
new_enough() { works "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if new_enough "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

version() { "$1" --version 2>/dev/null || echo missing; }

python=$(find_python)
if works uv --version; then installer=uv; else installer=pip; fi
if [ -z "$python" ] && [ -n "${PYTHON:-}" ]; then
    die "Python 3.11 or newer is needed; PYTHON=$PYTHON is $(version "$PYTHON")."
elif [ -z "$python" ] && [ "$installer" = pip ]; then
    die "Python 3.11 or newer is needed; python3 here is $(version python3).
Install a newer one (or uv, which brings its own), or name it: make setup PYTHON=/path/to/python3.12"
fi

case "$(uname -s)" in
    Linux) size="3 GB to download, 6 GB on disk, CUDA libraries included" ;;
    *) size="about 1 GB to download, 2 GB on disk" ;;
esac
echo "Installing PyTorch and friends into .venv: $size."
echo "Once only; one or two minutes on a fast line, as long as the download takes on a slow one."

mkdir -p .venv
log=.venv/setup.log
: >"$log"
begun=$(date +%s)
[ -t 1 ] && terminal=yes || terminal=no

# phase WHAT COMMAND...: a line with the seconds that it took, its last step beside it meanwhile on a terminal.
# Its output goes to the log, and where it fails onto the screen too, whole.
phase() {
    what=$1
    shift
    started=$(date +%s)
    from=$(($(wc -l <"$log") + 1))
    "$@" >>"$log" 2>&1 &
    job=$!
    trap 'kill "$job" 2>/dev/null; echo; exit 130' INT TERM
    if [ $terminal = yes ]; then
        while kill -0 "$job" 2>/dev/null; do
            step=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-60)
            printf '\r\033[K  %s ... %d s  %s' "$what" $(($(date +%s) - started)) "$step"
            sleep 1
        done
        printf '\r\033[K'
    fi
    code=0
    wait "$job" || code=$?
    trap - INT TERM
    if [ "$code" -ne 0 ]; then
        printf '  %s: FAILED after %d s. What was said:\n\n' "$what" $(($(date +%s) - started)) >&2
        tail -n "+$from" "$log" >&2
        printf '\n' >&2
        die "$what failed (all output: $log). Mend what is said above, and run make again: it goes on from there."
    fi
    printf '  %s: %d s\n' "$what" $(($(date +%s) - started))
}

new_environment() {
    # What an unsuitable interpreter left is taken away; the log stays.
    new_enough .venv/bin/python || rm -rf .venv/bin .venv/lib .venv/lib64 .venv/include .venv/share .venv/pyvenv.cfg
    if [ "$installer" = uv ]; then
        new_enough .venv/bin/python || uv venv --quiet --allow-existing --python "${python:->=3.11}" .venv
        return
    fi
    new_enough .venv/bin/python || "$python" -m venv --without-pip .venv
    works .venv/bin/python -m pip --version || works .venv/bin/python -m ensurepip || {
        echo "$python cannot put pip into a new environment (its module ensurepip is missing)."
        echo "On Debian and Ubuntu: apt install python3-venv. Anywhere: install uv, and run make again."
        return 1
    }
}

packages="-c constraints.txt --group dev -e ."

install_with() {
    # shellcheck disable=SC2086 # words of their own
    "$1" pip install --python .venv --build-constraints constraints.txt $packages
}

install() {
    if .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt uv && install_with .venv/bin/uv; then
        return
    fi
    echo "By pip, as uv failed:"
    .venv/bin/python -m pip install --disable-pip-version-check --upgrade -c constraints.txt pip  # knows --group from 25.1
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off --build-constraint constraints.txt $packages
}

if [ "$installer" = uv ]; then
    phase "environment with $(version "${python:-python3}")" new_environment
    phase "Reslab and its tools" install_with uv
else
    phase "environment with $(version "$python")" new_environment
    phase "Reslab and its tools" install
fi
echo "Ready after $(($(date +%s) - begun)) s: .venv/bin/reslab --help"
