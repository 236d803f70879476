from heliotrope.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Choice(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHOICE_UNSPECIFIED: _ClassVar[Choice]
    CHOICE_A: _ClassVar[Choice]
    CHOICE_B: _ClassVar[Choice]
    CHOICE_TIE: _ClassVar[Choice]
    CHOICE_BOTH_BAD: _ClassVar[Choice]
    CHOICE_SKIP: _ClassVar[Choice]
CHOICE_UNSPECIFIED: Choice
CHOICE_A: Choice
CHOICE_B: Choice
CHOICE_TIE: Choice
CHOICE_BOTH_BAD: Choice
CHOICE_SKIP: Choice

class Thumb(_message.Message):
    __slots__ = ("response_id", "up")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    up: bool
    def __init__(self, response_id: _Optional[str] = ..., up: _Optional[bool] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("choice", "strength")
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    choice: Choice
    strength: int
    def __init__(self, choice: _Optional[_Union[Choice, str]] = ..., strength: _Optional[int] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("response_ids",)
    RESPONSE_IDS_FIELD_NUMBER: _ClassVar[int]
    response_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, response_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("response_id", "text")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    text: str
    def __init__(self, response_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Rating(_message.Message):
    __slots__ = ("response_id", "helpfulness", "presentation")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    HELPFULNESS_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    helpfulness: int
    presentation: int
    def __init__(self, response_id: _Optional[str] = ..., helpfulness: _Optional[int] = ..., presentation: _Optional[int] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("thumb", "comparison", "ranking", "correction", "rating", "reasons", "comment")
    THUMB_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    CORRECTION_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    thumb: Thumb
    comparison: Comparison
    ranking: Ranking
    correction: Correction
    rating: Rating
    reasons: _containers.RepeatedScalarFieldContainer[str]
    comment: str
    def __init__(self, thumb: _Optional[_Union[Thumb, _Mapping]] = ..., comparison: _Optional[_Union[Comparison, _Mapping]] = ..., ranking: _Optional[_Union[Ranking, _Mapping]] = ..., correction: _Optional[_Union[Correction, _Mapping]] = ..., rating: _Optional[_Union[Rating, _Mapping]] = ..., reasons: _Optional[_Iterable[str]] = ..., comment: _Optional[str] = ...) -> None: ...

class GiveFeedbackRequest(_message.Message):
    __slots__ = ("request_id", "feedback_tickets", "feedback")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_TICKETS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    feedback_tickets: _containers.RepeatedScalarFieldContainer[str]
    feedback: Feedback
    def __init__(self, request_id: _Optional[str] = ..., feedback_tickets: _Optional[_Iterable[str]] = ..., feedback: _Optional[_Union[Feedback, _Mapping]] = ...) -> None: ...

class GiveFeedbackResponse(_message.Message):
    __slots__ = ("feedback_id", "repeated", "policy_versions")
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    feedback_id: str
    repeated: bool
    policy_versions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, feedback_id: _Optional[str] = ..., repeated: _Optional[bool] = ..., policy_versions: _Optional[_Iterable[str]] = ...) -> None: ...

class PersonalFeedback(_message.Message):
    __slots__ = ("user", "request")
    USER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    user: str
    request: GiveFeedbackRequest
    def __init__(self, user: _Optional[str] = ..., request: _Optional[_Union[GiveFeedbackRequest, _Mapping]] = ...) -> None: ...

class StreamFeedbackRequest(_message.Message):
    __slots__ = ("feedback",)
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    feedback: _containers.RepeatedCompositeFieldContainer[PersonalFeedback]
    def __init__(self, feedback: _Optional[_Iterable[_Union[PersonalFeedback, _Mapping]]] = ...) -> None: ...

class FeedbackRefusal(_message.Message):
    __slots__ = ("status", "message", "retry_after_ms")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    status: str
    message: str
    retry_after_ms: int
    def __init__(self, status: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class FeedbackResult(_message.Message):
    __slots__ = ("given", "refused")
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    given: GiveFeedbackResponse
    refused: FeedbackRefusal
    def __init__(self, given: _Optional[_Union[GiveFeedbackResponse, _Mapping]] = ..., refused: _Optional[_Union[FeedbackRefusal, _Mapping]] = ...) -> None: ...

class StreamFeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FeedbackResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FeedbackResult, _Mapping]]] = ...) -> None: ...

class RetractFeedbackRequest(_message.Message):
    __slots__ = ("request_id", "feedback_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    feedback_id: str
    def __init__(self, request_id: _Optional[str] = ..., feedback_id: _Optional[str] = ...) -> None: ...

class RetractFeedbackResponse(_message.Message):
    __slots__ = ("repeated",)
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    def __init__(self, repeated: _Optional[bool] = ...) -> None: ...

class SetConsentRequest(_message.Message):
    __slots__ = ("request_id", "may_learn")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MAY_LEARN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    may_learn: bool
    def __init__(self, request_id: _Optional[str] = ..., may_learn: _Optional[bool] = ...) -> None: ...

class SetConsentResponse(_message.Message):
    __slots__ = ("repeated",)
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    def __init__(self, repeated: _Optional[bool] = ...) -> None: ...

class ForgetMeRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ForgetMeResponse(_message.Message):
    __slots__ = ("erasure_id",)
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    def __init__(self, erasure_id: _Optional[str] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("tenant", "user", "conversation_id", "answers", "expires_at", "source", "purpose", "consent", "item_id", "prompt_digest")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user: str
    conversation_id: str
    answers: _containers.RepeatedCompositeFieldContainer[TicketAnswer]
    expires_at: int
    source: _common_pb2.Source
    purpose: _common_pb2.Purpose
    consent: bool
    item_id: str
    prompt_digest: str
    def __init__(self, tenant: _Optional[str] = ..., user: _Optional[str] = ..., conversation_id: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[TicketAnswer, _Mapping]]] = ..., expires_at: _Optional[int] = ..., source: _Optional[_Union[_common_pb2.Source, str]] = ..., purpose: _Optional[_Union[_common_pb2.Purpose, str]] = ..., consent: _Optional[bool] = ..., item_id: _Optional[str] = ..., prompt_digest: _Optional[str] = ...) -> None: ...

class TicketAnswer(_message.Message):
    __slots__ = ("response_id", "adapter", "side")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    adapter: _common_pb2.AdapterRef
    side: _common_pb2.Side
    def __init__(self, response_id: _Optional[str] = ..., adapter: _Optional[_Union[_common_pb2.AdapterRef, _Mapping]] = ..., side: _Optional[_Union[_common_pb2.Side, str]] = ...) -> None: ...
