"""Searches everything under a folder for what somebody said: as text, as token ids in each encoding, and for key bytes."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from heliotrope.v1.events_pb2 import Event, ResponseServed


def encodings(ids: Sequence[int]) -> dict[str, bytes]:
    """Token ids as they may lie in a file."""
    packed = ResponseServed(response_token_ids=ids).SerializeToString()
    plain = json.dumps(list(ids))[1:-1]
    return {
        "varint": packed[packed.index(_varint(ids[0])) :],
        "int32": struct.pack(f"<{len(ids)}i", *ids),
        "int64": struct.pack(f"<{len(ids)}q", *ids),
        "JSON": plain.encode(),
        "JSON, compact": plain.replace(" ", "").encode(),
    }


def needles(
    texts: Sequence[str], token_ids: Sequence[Sequence[int]], keys: Sequence[bytes]
) -> dict[str, bytes]:
    """What to look for, by name."""
    found = {f"text {i}": text.encode() for i, text in enumerate(texts)}
    found |= {f"text {i}, UTF-16": text.encode("utf-16-le") for i, text in enumerate(texts)}
    found |= {f"ids {i} {how}": raw for i, ids in enumerate(token_ids) for how, raw in encodings(ids).items()}
    return found | {f"key {i}": key for i, key in enumerate(keys)} | {
        f"key {i}, hex": key.hex().encode() for i, key in enumerate(keys)
    }  # fmt: skip


def in_files(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    """Where each thing lies, "name in file": every file, its WAL, journal and free pages among them, byte by byte."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found += [f"{name} in {path.relative_to(folder)}" for name, raw in wanted.items() if raw in content]
    return found


def in_rows(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    """The same for every value of every row of every SQLite file, read through SQLite and, where it is one, as an event."""
    found = []
    for path in sorted(folder.rglob("*.db")):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                raw = b"\0".join(map(_raw, row))
                found += [f"{name} in {path.name}:{table}" for name, one in wanted.items() if one in raw]
        connection.close()
    return found


def _raw(value: object) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    try:
        return value + str(Event.FromString(value)).encode()
    except DecodeError:
        return value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
