#!/bin/sh
# Makes .venv and installs Reslab with its tools into it, at the versions in constraints.txt.
# Uses uv where it is, else python3 -m venv and pip. PYTHON=... chooses the interpreter.
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
echo "Installing PyTorch and friends into .venv with $installer: $size."
echo "Once only; one or two minutes on a fast line, as long as the download takes on a slow one."

if [ "$installer" = uv ]; then
    new_enough .venv/bin/python || uv venv --quiet --clear --python "${python:->=3.11}" .venv
    uv pip install --python .venv -c constraints.txt --build-constraints constraints.txt --group dev -e .
else
    new_enough .venv/bin/python || "$python" -m venv --clear --without-pip .venv
    works .venv/bin/python -m pip --version || works .venv/bin/python -m ensurepip ||
        die "$python cannot put pip into a new environment (its module ensurepip is missing).
On Debian and Ubuntu: apt install python3-venv. Anywhere: install uv, and run make again."
    .venv/bin/python -m pip install --quiet --upgrade -c constraints.txt pip # --group came with pip 25.1
    .venv/bin/python -m pip install -c constraints.txt --build-constraint constraints.txt --group dev -e .
fi
echo "Ready: .venv/bin/reslab --help"
