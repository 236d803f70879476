"""Identities: pseudonyms, request ids, and a key that nobody else can read."""

from __future__ import annotations

import hashlib
import hmac
import uuid

import pytest

from heliotrope import identity
from heliotrope.errors import ConfigError, InvalidInput

KEY = b"k" * 32
USER = "0123456789abcdef" * 2


def test_a_pseudonym_is_the_keyed_hash_of_tenant_and_id():
    expected = hmac.new(KEY, b"acme\x00" + USER.encode(), hashlib.sha256).hexdigest()[:32]
    assert identity.pseudonym(KEY, "acme", USER) == expected


def test_another_tenant_or_key_is_another_person():
    names = {identity.pseudonym(k, t, USER) for k in (KEY, b"x" * 32) for t in ("a", "b")}
    assert len(names) == 4


def test_repeats_make_the_same_event_and_parts_differ():
    first = identity.event_id("u", "r", "0")
    assert first == identity.event_id("u", "r", "0")
    assert uuid.UUID(first).version == 5
    assert (
        len(
            {
                first,
                identity.event_id("u", "r", "1"),
                identity.event_id("v", "r", "0"),
                identity.event_id("u", "s", "0"),
            }
        )
        == 4
    )


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 31 + "\n"])
def test_ids_that_are_not_128_bits_are_refused_without_echo(value):
    with pytest.raises(InvalidInput, match="32 lower-case hex digits"):
        identity.check_user_id(value)


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "ä", "a\n"])
def test_request_ids(value):
    with pytest.raises(InvalidInput, match="1 to 64 printable ASCII"):
        identity.check_request_id(value)


def test_the_server_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "keys" / "server.key"
    key = identity.server_key(path)
    assert (len(key), path.stat().st_mode & 0o777) == (32, 0o600)
    assert identity.server_key(path) == key


def test_a_short_key_is_refused(tmp_path):
    (tmp_path / "k").write_bytes(b"short")
    with pytest.raises(ConfigError, match="holds 5 bytes, not 32"):
        identity.server_key(tmp_path / "k")
