#!/usr/bin/env bash
# Finds a Python that can build .venv, then hands over to deploy/setup_env.py, which says what it does.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() { # a version manager's stub may be on the PATH and yet not run
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

for candidate in ${PYTHON_FOR_VENV:-} python3.11 python3.12 python3.13 python3 python; do
    if command -v "$candidate" >/dev/null && usable "$candidate"; then
        exec "$candidate" -m deploy.setup_env
    fi
done

found="$(command -v python3 >/dev/null && python3 --version 2>&1 || echo missing)"
cat >&2 <<MESSAGE
set-up failed: no Python 3.11, 3.12 or 3.13 with venv and pip on the PATH (python3: $found).
What to do: install one (Debian: apt-get install python3 python3-venv), or name it:
    PYTHON_FOR_VENV=/path/to/python3.11 make setup
MESSAGE
exit 1
