"""Checks of what clients send, and nothing else: each refusal names the value and the remedy."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from heliotrope.chat import Message, Role
from heliotrope.errors import InvalidInput, PermissionDenied
from heliotrope.identity import check_request_id
from heliotrope.policies import number
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2
from serving.ask import Ask, Limits
from serving.caller import Caller
from serving.engine import Sampling

MAX_TEXT = 65_536
MAX_HISTORY = 256
MAX_REASONS = 8
MAX_COMMENT = 4_096
MAX_TICKETS = 16
ROLES: dict[int, Role] = {
    common_pb2.ROLE_SYSTEM: "system",
    common_pb2.ROLE_USER: "user",
    common_pb2.ROLE_ASSISTANT: "assistant",
}

_REASON = re.compile(r"[a-z_]{1,32}")


def ask_of(request: chat_pb2.ChatRequest, caller: Caller, limits: Limits, now: float) -> Ask:
    """The checked request. Raises InvalidInput, or PermissionDenied for `policy` on the public listener."""
    if request.policy and not caller.private:
        raise PermissionDenied(
            f"policy {request.policy[:80]!r} can be named on the private listener only; leave it out"
        )
    if request.policy:
        number(request.policy)
    temperature, max_tokens = sampling_of(request.sampling, limits)
    return Ask(
        caller=caller, request_id=check_request_id(request.request_id),
        conversation_id=_optional_uuid("conversation_id", request.conversation_id),
        parent=_parent(request), message=request.message, history=_history(request), policy=request.policy,
        temperature=temperature, max_tokens=max_tokens, wish=_wish(request), source=_source(request.source),
        consent=request.consent if request.HasField("consent") else True, asked_at=now,
    )  # fmt: skip


def sampling_of(sampling: common_pb2.Sampling, limits: Limits) -> tuple[float, int | None]:
    """Temperature and max_tokens (None: not given). Raises InvalidInput when out of bounds or not a number."""
    temperature = sampling.temperature if sampling.HasField("temperature") else limits.temperature
    Sampling(temperature, sampling.max_tokens or 1)
    if sampling.max_tokens > limits.max_tokens:
        raise InvalidInput(
            f"max_tokens {sampling.max_tokens} is out of range; ask for 1 to {limits.max_tokens}, or 0 for the default"
        )
    return temperature, sampling.max_tokens or None


def messages_of(sent: Sequence[common_pb2.Message]) -> tuple[Message, ...]:
    """A whole history: known roles, a system message only first, the last one the user's."""
    if not 0 < len(sent) <= MAX_HISTORY:
        raise InvalidInput(
            f"there are {len(sent)} messages; send 1 to {MAX_HISTORY}, the last one the user's"
        )
    messages = tuple(_message(i, m) for i, m in enumerate(sent))
    if messages[-1].role != "user":
        raise InvalidInput(f"the last message's role is {messages[-1].role}; it must be the user's")
    return messages


def _message(index: int, sent: common_pb2.Message) -> Message:
    role = ROLES.get(sent.role)
    if role is None:
        raise InvalidInput(
            f"message {index} has the unknown role {sent.role}; use ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT"
        )
    if role == "system" and index:
        raise InvalidInput(f"message {index} is a system message; only the first one may be")
    return Message(role, text_of(f"message {index}", sent.content))


def text_of(name: str, text: str) -> str:
    """Text of 1 to 65,536 bytes that is not only white space."""
    size = len(text.encode())
    if size > MAX_TEXT:
        raise InvalidInput(f"{name} has {size} bytes; at most {MAX_TEXT} are taken, so shorten it")
    if not text.strip():
        raise InvalidInput(f"{name} is empty; write something")
    return text


def uuid_of(name: str, value: str) -> str:
    """The UUID in its canonical form. Raises InvalidInput."""
    try:
        return str(uuid.UUID(value))
    except ValueError as error:
        raise InvalidInput(f"{name} {value[:80]!r} is not a UUID; send one that the server issued") from error


def _optional_uuid(name: str, value: str) -> str:
    return uuid_of(name, value) if value else ""


def _history(request: chat_pb2.ChatRequest) -> tuple[Message, ...]:
    if not request.history:
        if not request.message:
            raise InvalidInput(
                "there are no messages; send `message`, or `history` with the user's message last"
            )
        text_of("message", request.message)
        return ()
    if request.message or request.conversation_id or request.parent_response_id:
        raise InvalidInput(
            "history comes with message, conversation_id or parent_response_id; send either a history or the others"
        )
    return messages_of(request.history)


def _parent(request: chat_pb2.ChatRequest) -> str:
    if request.parent_response_id and not request.conversation_id:
        raise InvalidInput(
            f"parent_response_id {request.parent_response_id[:80]!r} comes without its conversation_id; send both"
        )
    return _optional_uuid("parent_response_id", request.parent_response_id)


def _wish(request: chat_pb2.ChatRequest) -> chat_pb2.ComparisonWish:
    if request.comparison not in chat_pb2.ComparisonWish.values():
        raise InvalidInput(f"comparison {request.comparison} is unknown; use a ComparisonWish")
    return request.comparison


def _source(source: common_pb2.Source) -> common_pb2.Source:
    if source not in (common_pb2.SOURCE_UNSPECIFIED, common_pb2.SOURCE_HUMAN, common_pb2.SOURCE_SIMULATED):
        raise InvalidInput(
            f"source {source} is not taken from a chat; send SOURCE_HUMAN, SOURCE_SIMULATED or nothing"
        )
    return source or common_pb2.SOURCE_HUMAN


def check_feedback(request: feedback_pb2.GiveFeedbackRequest) -> None:
    """What can be told of a judgement without its tickets. Raises InvalidInput."""
    check_request_id(request.request_id)
    kind = check_judgement(request.feedback)
    most = MAX_TICKETS if kind == "ranking" else 1
    if not 0 < len(request.feedback_tickets) <= most:
        raise InvalidInput(
            f"there are {len(request.feedback_tickets)} feedback_tickets; a {kind} takes {'1 to ' if most > 1 else ''}{most}"
        )


def check_judgement(feedback: feedback_pb2.Feedback) -> str:
    """What can be told of a judgement by itself; its kind. Raises InvalidInput."""
    kind = feedback.WhichOneof("kind")
    if kind is None:
        raise InvalidInput("the feedback has no kind; set thumb, comparison, ranking, correction or rating")
    if len(feedback.reasons) > MAX_REASONS or not all(_REASON.fullmatch(r) for r in feedback.reasons):
        raise InvalidInput(
            f"reasons {[r[:40] for r in feedback.reasons][:9]} are not at most {MAX_REASONS} of 1 to 32 a-z and '_' each"
        )
    if (size := len(feedback.comment.encode())) > MAX_COMMENT:
        raise InvalidInput(f"the comment has {size} bytes; at most {MAX_COMMENT} are taken, so shorten it")
    _KINDS.get(kind, lambda _: None)(feedback)
    return kind


def _comparison(feedback: feedback_pb2.Feedback) -> None:
    choice, strength = feedback.comparison.choice, feedback.comparison.strength
    if choice not in feedback_pb2.Choice.values()[1:]:
        raise InvalidInput(
            f"choice {choice} is unknown; use CHOICE_A, CHOICE_B, CHOICE_TIE, CHOICE_BOTH_BAD or CHOICE_SKIP"
        )
    if strength > 3:
        raise InvalidInput(
            f"strength {strength} is out of range; use 1 (slightly) to 3 (much), or 0 when not asked"
        )
    if strength and choice not in (feedback_pb2.CHOICE_A, feedback_pb2.CHOICE_B):
        raise InvalidInput(
            f"strength {strength} comes with {feedback_pb2.Choice.Name(choice)}, which prefers neither; send 0"
        )


def _ranking(feedback: feedback_pb2.Feedback) -> None:
    ids = feedback.ranking.response_ids
    if not 2 <= len(ids) <= 16 or len(set(ids)) != len(ids):
        raise InvalidInput(
            f"the ranking names {len(ids)} responses, {len(set(ids))} of them different; name 2 to 16 without repeats"
        )


def _correction(feedback: feedback_pb2.Feedback) -> None:
    text_of("the correction", feedback.correction.text)


def _rating(feedback: feedback_pb2.Feedback) -> None:
    helpfulness, presentation = feedback.rating.helpfulness, feedback.rating.presentation
    if helpfulness > 5 or presentation > 3:
        raise InvalidInput(
            f"helpfulness {helpfulness} or presentation {presentation} is out of range; use 1 to 5 and 1 to 3, 0 for none"
        )
    if not helpfulness and not presentation:
        raise InvalidInput(
            "the rating grades nothing; give helpfulness (1 to 5), presentation (1 to 3) or both"
        )


_KINDS = {"comparison": _comparison, "ranking": _ranking, "correction": _correction, "rating": _rating}
