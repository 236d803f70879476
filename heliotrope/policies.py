"""Where every policy version stands: a table of allowed moves, and the fold of the `policy` topic over it.

    candidate → canary | live | rejected | superseded        canary → live | rolled_back | paused
    paused → canary | rolled_back                            live → retired | rolled_back
    retired → live                                           rolled_back, rejected → live (forced, with a reason)
    any → failed

Each move carries the epoch (number of the newest move) that its author saw; a move made for another epoch is stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from heliotrope.errors import FailedPrecondition, InvalidInput, NotFound
from heliotrope.v1 import events_pb2
from heliotrope.v1.policy_pb2 import PolicyState

BASE = "policy-v0"

CANDIDATE = PolicyState.POLICY_STATE_CANDIDATE
CANARY = PolicyState.POLICY_STATE_CANARY
LIVE = PolicyState.POLICY_STATE_LIVE
REJECTED = PolicyState.POLICY_STATE_REJECTED
SUPERSEDED = PolicyState.POLICY_STATE_SUPERSEDED
ROLLED_BACK = PolicyState.POLICY_STATE_ROLLED_BACK
PAUSED = PolicyState.POLICY_STATE_PAUSED
RETIRED = PolicyState.POLICY_STATE_RETIRED
FAILED = PolicyState.POLICY_STATE_FAILED
NONE = PolicyState.POLICY_STATE_UNSPECIFIED

MOVES: dict[PolicyState, frozenset[PolicyState]] = {
    NONE: frozenset({CANDIDATE, REJECTED, LIVE, FAILED}),
    CANDIDATE: frozenset({CANARY, LIVE, REJECTED, SUPERSEDED, FAILED}),
    CANARY: frozenset({LIVE, ROLLED_BACK, PAUSED, FAILED}),
    PAUSED: frozenset({CANARY, ROLLED_BACK, FAILED}),
    LIVE: frozenset({RETIRED, ROLLED_BACK, FAILED}),
    RETIRED: frozenset({LIVE, FAILED}),
    REJECTED: frozenset({LIVE, FAILED}),
    SUPERSEDED: frozenset({LIVE, FAILED}),
    ROLLED_BACK: frozenset({LIVE, FAILED}),
    FAILED: frozenset({FAILED}),
}
FORCED: frozenset[PolicyState] = frozenset({REJECTED, SUPERSEDED, ROLLED_BACK})
"""States from which a version goes live only when an operator forces it with a reason."""


def number(version: str) -> int:
    """7 for `policy-v7`. Raises InvalidInput for anything else."""
    prefix, _, digits = version.partition("-v")
    number_like = prefix == "policy" and len(digits) <= 9 and digits.isascii() and digits.isdigit()
    if not number_like or str(int(digits)) != digits:
        raise InvalidInput(
            f"{version[:80]!r} is not a policy version; they are called policy-v0, policy-v1, …"
        )
    return int(digits)


def state_name(state: PolicyState) -> str:
    """`rolled_back` for POLICY_STATE_ROLLED_BACK."""
    return PolicyState.Name(state).removeprefix("POLICY_STATE_").lower()


@dataclass(frozen=True)
class Standing:
    """Where one version stands. `was_live`: it has served as live. `harmful`: it was rolled back once."""

    version: str
    digest: str
    state: PolicyState
    reason: str = ""
    was_live: bool = False
    harmful: bool = False


@dataclass
class PolicyTable:
    """The fold of all PolicyStateChanged events, in their order. `policy-v0`, the base model, is live at first."""

    epoch: int = 0
    standings: dict[str, Standing] = field(
        default_factory=lambda: {BASE: Standing(BASE, "", LIVE, "the base model", True)}
    )

    @property
    def live(self) -> Standing:
        """The version that serves; the base model when no other one can."""
        return next((s for s in self.standings.values() if s.state == LIVE), self.standings[BASE])

    @property
    def last_good(self) -> Standing | None:
        """What a roll back puts back: the newest version that was live, is not now, and was never rolled back."""
        good = [s for s in self.standings.values() if s.was_live and not s.harmful and s.state == RETIRED]
        return max(good, key=lambda s: number(s.version), default=None)

    def standing(self, version: str) -> Standing:
        """Where `version` stands. Raises NotFound."""
        try:
            return self.standings[version]
        except KeyError:
            raise NotFound(f"there is no {version}; `heliotrope policies list` shows what there is") from None

    def move(
        self, version: str, to: PolicyState, *, digest: str = "", actor: str = "auto", reason: str = ""
    ) -> events_pb2.PolicyStateChanged:
        """The event of a move that the table allows now; apply it with `apply`. Raises FailedPrecondition otherwise."""
        before = self.standings.get(version)
        was = before.state if before else NONE
        if to not in MOVES[was]:
            allowed = ", ".join(sorted(state_name(s) for s in MOVES[was]))
            raise FailedPrecondition(
                f"{version} is {state_name(was)} and cannot become {state_name(to)}; from there it can become {allowed}"
            )
        return events_pb2.PolicyStateChanged(
            policy_version=version,
            digest=digest or (before.digest if before else ""),
            to=to,
            epoch=self.epoch + 1,
            actor=actor,
            reason=reason,
            **{"from": was},
        )

    def check_epoch(self, expected: int) -> None:
        """Raise FailedPrecondition when the caller decided on older news (0: the caller does not mind)."""
        if expected and expected != self.epoch:
            raise FailedPrecondition(
                f"expected_epoch {expected} is stale, it is {self.epoch} now; look again and decide anew"
            )

    def apply(self, change: events_pb2.PolicyStateChanged) -> bool:
        """Fold one event in; False (and nothing changed) when it was made for another epoch."""
        if change.epoch != self.epoch + 1:
            return False
        self.epoch = change.epoch
        version, to = change.policy_version, change.to
        before = self.standings.get(version) or Standing(version, change.digest, NONE)
        self.standings[version] = replace(
            before,
            digest=change.digest,
            state=to,
            reason=change.reason,
            was_live=before.was_live or to == LIVE,
            harmful=before.harmful or to == ROLLED_BACK,
        )
        if to == LIVE:
            self._retire_others(version)
        return True

    def _retire_others(self, live: str) -> None:
        for version, standing in self.standings.items():
            if standing.state == LIVE and version != live:
                self.standings[version] = replace(standing, state=RETIRED, reason=f"replaced by {live}")
