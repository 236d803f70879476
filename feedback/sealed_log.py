"""A log whose content nobody can read without the keys: seals what is appended, opens what is read.

It lies around any `Store` or `Log`, so that files, outbox, broker and quarantine below it only ever hold sealed events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from feedback.log import Event, Log, Positions, Record, Store
from feedback.sealing import Key, has_content, key_id, open_, owner_of, seal


class Secrets(Protocol):
    """Where keys are found for reading."""

    def find(self, ids: Collection[bytes]) -> Mapping[bytes, Key]:
        """Keys by id; those of erased people are not among them. Raises LogError or Unavailable."""
        ...


class KeyMaker(Secrets, Protocol):
    """Where keys come from for writing."""

    def current(self, owners: Collection[str]) -> Mapping[str, Key]:
        """The key of each owner, made durably where there is none. Raises LogError."""
        ...


L = TypeVar("L", bound=Log)


class SealedReader(Generic[L]):
    """Reads a log and opens what it reads; an event whose key is gone comes as it is stored, `sealed` set."""

    def __init__(self, inner: L, secrets: Secrets) -> None:
        self.inner, self._secrets = inner, secrets

    def append(self, events: Sequence[Event]) -> list[int]:
        """As the log below."""
        return self.inner.append(events)

    def read(self, topic: str, after: Positions, limit: int) -> list[Record]:
        """See `Log.read`."""
        records = self.inner.read(topic, after, limit)
        opened = iter(self._opened([record.event for record in records if record.event is not None]))
        return [record if record.event is None else replace(record, event=next(opened)) for record in records]

    def end(self, topic: str) -> dict[str, int]:
        """See `Log.end`."""
        return self.inner.end(topic)

    def close(self) -> None:
        """See `Log.close`."""
        self.inner.close()

    def _opened(self, events: Sequence[Event]) -> Sequence[Event]:
        ids = {key_id(event) for event in events if event.sealed}
        secrets = self._secrets.find(ids) if ids else {}
        for event in events:
            if (key := secrets.get(key_id(event))) is not None:
                open_(event, key.box)
        return events


class SealedStore(SealedReader[Store]):
    """A `Store` that seals what it appends."""

    def __init__(self, inner: Store, keys: KeyMaker) -> None:
        super().__init__(inner, keys)
        self._keys = keys

    def append(self, events: Sequence[Event]) -> list[int]:
        """See `Log.append`. A person's key is durable before anything sealed with it."""
        owners = {owner_of(event) for event in events if has_content(event)}
        keys = self._keys.current(owners) if owners else {}
        return self.inner.append(
            [seal(event, keys[owner_of(event)]) if has_content(event) else event for event in events]
        )

    def find(self, event_id: str) -> Event | None:
        """See `Store.find`."""
        event = self.inner.find(event_id)
        return None if event is None else self._opened([event])[0]

    def among(self, event_ids: Sequence[str]) -> list[str]:
        """See `Store.among`."""
        return self.inner.among(event_ids)

    def count(self, topic: str) -> int:
        """See `Store.count`."""
        return self.inner.count(topic)
