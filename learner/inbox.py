"""What the learner knows from the log: joined preferences, prompts to judge with, and which version is live.

Judgements and what they judge are in the learner's own file (feedback/training_set.py), so that a restart goes on where
the last one stopped; moves of versions are few and are read anew at each start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from feedback.examples import Example
from feedback.log import POLICY, Log, Positions, read_all
from feedback.teachings import KINDS, Teaching, teachings
from feedback.training_set import TrainingSet, erasures
from heliotrope.policies import PolicyTable

PromptIds = tuple[int, ...]
KEPT_PROMPTS = 512


class Inbox:
    """Reads the log from where it stopped. window: most preferences that an update sees."""

    def __init__(self, log: Log, training_set: TrainingSet, window: int):
        self._log = log
        self._set = training_set
        self._window = window
        self._known: set[str] = set()
        self._policy: dict[str, int] = {}
        self._until: Positions | None = None
        self._looked_again = False
        self.table = PolicyTable()

    @property
    def positions(self) -> dict[str, int]:
        """How far the log was read, by place."""
        return self._set.positions | self._policy

    def read(self, until: Positions | None = None) -> int:
        """Take in what is new (up to `until`, beyond which nothing counts then); how many records that was."""
        self._until = until
        return self._set.follow(self._log, until) + self.read_moves(until)

    def read_moves(self, until: Positions | None = None) -> int:
        """Of what is new, moves of versions alone: while an update is under way, what it is made of must not be taken back."""
        count = 0
        for record in read_all(self._log, POLICY, self._policy):
            if until is not None and record.offset > until.get(record.place, 0):
                continue
            self._policy[record.place] = record.offset
            if record.event is not None:
                self.table.apply(record.event.policy_state_changed)
            count += 1
        return count

    def look_again(self) -> None:
        """At what could not be used, once a process: a newer program, or a later time, may be able to. Not while an update is
        under way: what it is made of is settled."""
        if not self._looked_again:
            self._set.retry()
            self._looked_again = True

    def heed_erasures(self) -> None:
        """See `TrainingSet.heed_erasures`."""
        self._set.heed_erasures(erasures(self._log))

    def teachings(self, kinds: Collection[str] = KINDS) -> list[Teaching]:
        """The newest of what a policy can be trained on, oldest first, held-out ones among them; at most the window."""
        return teachings(self._set, self._window, kinds, self._until)

    def fresh(self, preferences: Sequence[Example]) -> list[Example]:
        """Those that no version has been made with yet."""
        return [p for p in preferences if p.id not in self._known]

    def settle(self, preferences: Sequence[Example]) -> None:
        """A version has been published with these: they are news no longer."""
        self._known.update(p.id for p in preferences)

    def erased(self, event_ids: Iterator[str]) -> list[str]:
        """Those of which only the tombstone is left."""
        return self._set.facts.erased_among(event_ids)

    def prompts(self, limit: int, preferences: Sequence[Example], longest: int) -> list[PromptIds]:
        """At most `limit` of people's newest prompts of at most `longest` tokens, those first that no
        preference in training has."""
        trained = {p.prompt_ids for p in preferences if not p.held_out}
        newest_first = [ids for ids in reversed(self._set.prompts(KEPT_PROMPTS)) if len(ids) <= longest]
        return sorted(newest_first, key=lambda ids: ids in trained)[:limit]

    @property
    def log(self) -> Log:
        """What it reads."""
        return self._log

    @property
    def live(self) -> str:
        """The version that serves now, as far as the log says."""
        return self.table.live.version

    @property
    def training_set(self) -> TrainingSet:
        """All that may be learned from."""
        return self._set

    def close(self) -> None:
        """Close the log and the file."""
        self._log.close()
        self._set.close()
