"""The `heliotrope` command: a gRPC client and nothing else.

Nothing here imports gRPC or the client before the arguments are parsed, so that `--help` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. A failure is one line on standard error and exit status 1."""
    from heliotrope.cli.app import app
    from heliotrope.errors import HeliotropeError

    try:
        app()
    except HeliotropeError as error:
        print(f"heliotrope: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(141)
