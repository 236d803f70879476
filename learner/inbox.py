"""What the learner knows from the log: joined preferences, prompts to judge with, and which version is live."""

from __future__ import annotations

from collections import OrderedDict

from feedback.join import Joiner, Preference
from feedback.log import EXCHANGES, FEEDBACK, POLICY, Log, Positions, Record, read_all
from heliotrope.policies import PolicyTable

PromptIds = tuple[int, ...]
KEPT_PROMPTS = 512


class Inbox:
    """Reads the log from the beginning at start, and from where it stopped after that."""

    def __init__(self, log: Log, joiner: Joiner, window: int):
        self._log = log
        self._joiner = joiner
        self._window = window
        self._known: set[str] = set()
        self._prompts: OrderedDict[PromptIds, None] = OrderedDict()
        self.table = PolicyTable()
        self.positions: dict[str, int] = {}

    def read(self, until: Positions | None = None) -> int:
        """Take in what is new (up to `until`); how many records that was."""
        count = 0
        for topic in (POLICY, EXCHANGES, FEEDBACK):
            for record in read_all(self._log, topic, self.positions):
                if until is not None and record.offset > until.get(record.place, 0):
                    continue
                self.positions[record.place] = record.offset
                self._take(record)
                count += 1
        return count

    def preferences(self) -> list[Preference]:
        """The newest accepted preferences, oldest first, held-out ones among them; at most the window."""
        ordered = sorted(self._joiner.preferences(), key=lambda p: (p.time, p.id))
        return ordered[-self._window :]

    def fresh(self, preferences: list[Preference]) -> list[Preference]:
        """Those that no version has been made with yet."""
        return [p for p in preferences if p.id not in self._known]

    def settle(self, preferences: list[Preference]) -> None:
        """A version has been published with these: they are news no longer."""
        self._known.update(p.id for p in preferences)

    def prompts(self, limit: int, preferences: list[Preference], longest: int) -> list[PromptIds]:
        """At most `limit` of people's newest prompts of at most `longest` tokens, those first that no
        preference in training has."""
        trained = {p.prompt_ids for p in preferences if not p.held_out}
        newest_first = [ids for ids in reversed(self._prompts) if len(ids) <= longest]
        return sorted(newest_first, key=lambda ids: ids in trained)[:limit]

    @property
    def live(self) -> str:
        """The version that serves now, as far as the log says."""
        return self.table.live.version

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _take(self, record: Record) -> None:
        if record.event is None:
            return
        what = record.event.WhichOneof("what")
        if what == "policy_state_changed":
            self.table.apply(record.event.policy_state_changed)
            return
        self._joiner.add(record.event)
        served = record.event.response_served
        if what == "response_served" and self._joiner.usable(served.response_id):
            self._prompts[tuple(served.prompt_token_ids)] = None
            while len(self._prompts) > KEPT_PROMPTS:
                self._prompts.popitem(last=False)
