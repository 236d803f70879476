"""The command line's own identity, in a file of the user's: made at first use, readable by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from heliotrope import errors
from heliotrope.identity import check_user_id, new_user_id


def identity_path() -> Path:
    """`$XDG_CONFIG_HOME/heliotrope/identity`, or `~/.config/heliotrope/identity`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "heliotrope" / "identity"


def load_identity(path: Path | None = None) -> str:
    """This person's id (32 hex digits) from `path`, made at the first use with mode 0600.

    Raises ConfigError when the file cannot be made or holds something else.
    """
    path = path or identity_path()
    if path.is_file():
        return _read_identity(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise errors.ConfigError(
            f"cannot make the identity file {path}: {error}; set XDG_CONFIG_HOME"
        ) from error
    with os.fdopen(handle, "w") as file:
        file.write(new_user_id() + "\n")
    return _read_identity(path)


def _read_identity(path: Path) -> str:
    try:
        return check_user_id(path.read_text().strip())
    except (OSError, UnicodeDecodeError, errors.InvalidInput) as error:
        raise errors.ConfigError(
            f"{path} holds no identity ({error}); delete it and a new one is made"
        ) from error
