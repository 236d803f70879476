"""People's keys, in a file of their own that only serving opens (mode 0600), each wrapped by the server key.

A key that is destroyed is overwritten: SQLite writes zeros over deleted rows (`secure_delete`), and without a WAL no
older page is kept beside the file. What was sealed with it can then be read by nobody.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from feedback.sealing import NONCE_BYTES, Key
from heliotrope.errors import LogError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS keys (id BLOB PRIMARY KEY, owner TEXT UNIQUE NOT NULL, wrapped BLOB NOT NULL)"
)


class KeyStore:
    """Keys in the SQLite file at `path`, made with its folder; for any thread. Raises LogError when it cannot be used."""

    def __init__(self, path: Path, server_key: bytes) -> None:
        self._path, self._lock = path, threading.Lock()
        self._wrap = ChaCha20Poly1305(
            HKDF(SHA256(), 32, None, b"heliotrope people's keys").derive(server_key)
        )
        self._by_owner: dict[str, Key] = {}
        self._by_id: dict[bytes, Key] = {}
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in ("secure_delete = ON", "journal_mode = TRUNCATE", "synchronous = EXTRA"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(_TABLE)

    def current(self, owners: Collection[str]) -> dict[str, Key]:
        """See `KeyMaker.current`."""
        with self._lock, self._errors():
            new = []
            for owner in owners:
                if owner not in self._by_owner and not self._load("owner", owner):
                    new.append((owner, Key.new()))
            self._insert(new)
            return {owner: self._by_owner[owner] for owner in owners}

    def find(self, ids: Collection[bytes]) -> dict[bytes, Key]:
        """See `Secrets.find`."""
        with self._lock, self._errors():
            return {id: self._by_id[id] for id in ids if id in self._by_id or self._load("id", id)}

    def destroy(self, owner: str) -> bool:
        """Overwrite an owner's key; whether there was one. What they give later gets a new one."""
        with self._lock, self._errors():
            known = owner in self._by_owner or self._load("owner", owner)
            self._connection.execute("DELETE FROM keys WHERE owner = ?", (owner,))
            if key := self._by_owner.pop(owner, None):
                self._by_id.pop(key.id, None)
            return known

    def close(self) -> None:
        """Close the file and forget the keys; idempotent."""
        with self._lock:
            self._connection.close()
            self._by_owner.clear()
            self._by_id.clear()

    def _insert(self, new: list[tuple[str, Key]]) -> None:
        if not new:
            return
        rows = []
        for owner, key in new:
            nonce = os.urandom(NONCE_BYTES)
            rows.append(
                (key.id, owner, nonce + self._wrap.encrypt(nonce, key.secret, key.id + owner.encode()))
            )
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO keys (id, owner, wrapped) VALUES (?, ?, ?)", rows)
        for owner, key in new:
            self._remember(owner, key)

    def _load(self, column: str, value: str | bytes) -> bool:
        row = self._connection.execute(
            f"SELECT id, owner, wrapped FROM keys WHERE {column} = ?", (value,)
        ).fetchone()
        if row is None:
            return False
        id, owner, wrapped = row
        try:
            secret = self._wrap.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], id + owner.encode())
        except InvalidTag as error:
            raise LogError(
                f"a key in {self._path} was wrapped by another server key; restore both from one backup"
            ) from error
        self._remember(owner, Key(id, secret))
        return True

    def _remember(self, owner: str, key: Key) -> None:
        self._by_owner[owner] = key
        self._by_id[key.id] = key

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LogError(
                f"the key store {self._path} cannot be used: {error}; check the disk, or restore a backup"
            ) from error
