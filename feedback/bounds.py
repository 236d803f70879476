"""Where a logged prompt may be shortened: at the beginning of a person's turn, and nowhere else."""

from __future__ import annotations

from heliotrope.v1 import common_pb2
from heliotrope.v1.events_pb2 import ResponseServed


def user_turns(served: ResponseServed, opener: int | None) -> tuple[int, ...]:
    """Offsets in the prompt's token ids where a user's message begins, oldest first; empty when that is not certain.

    opener: the special token that opens every message and the answer asked for (ChatFormat.opener). A person cannot
    type it: special tokens in text are encoded as text. The template may have put a system message first.
    """
    starts = [place for place, token in enumerate(served.prompt_token_ids) if token == opener]
    roles = [message.role for message in served.messages]
    if len(starts) == len(roles) + 2 and roles[:1] != [common_pb2.ROLE_SYSTEM]:
        roles = [common_pb2.ROLE_SYSTEM, *roles]
    if len(starts) != len(roles) + 1:
        return ()
    return tuple(place for place, role in zip(starts, roles, strict=False) if role == common_pb2.ROLE_USER)
