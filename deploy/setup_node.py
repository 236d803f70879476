"""Installs what npm gives, pyright and buf, from package-lock.json. Only `make lint` needs it."""

from __future__ import annotations

import hashlib
import shutil
import sys

from deploy.steps import ROOT, SetupError, alone, exit_on_error, require_disk, run_loud, step

MODULES = ROOT / "node_modules"
STAMP = MODULES / ".heliotrope-set-up"


def main() -> None:
    """Leave node_modules as the lock says, or raise SetupError; returns at once when it is so already."""
    with alone():
        wanted = hashlib.sha256((ROOT / "package-lock.json").read_bytes()).hexdigest()
        if STAMP.is_file() and STAMP.read_text() == wanted:
            return
        npm = shutil.which("npm")
        if npm is None:
            remedy = "install Node.js 18 or newer with npm (Debian: apt-get install npm); only `make lint` needs it."
            raise SetupError("no npm on the PATH, and pyright and buf come from it", remedy)
        require_disk(ROOT, 1)
        with step("installing pyright and buf with npm"):
            remedy = "check the network and the registry that npm uses, then run again."
            # Not `npm ci`: it refuses a lock made where the registry lacks buf for other platforms; what the lock does
            # name is checked against its hash here too, and --no-save leaves the lock as committed.
            run_loud([npm, "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], remedy)
        STAMP.write_text(wanted)


if __name__ == "__main__":
    sys.exit(exit_on_error(main))
