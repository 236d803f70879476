from heliotrope.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ComparisonWish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPARISON_WISH_UNSPECIFIED: _ClassVar[ComparisonWish]
    COMPARISON_WISH_OFF: _ClassVar[ComparisonWish]
    COMPARISON_WISH_ON: _ClassVar[ComparisonWish]
COMPARISON_WISH_UNSPECIFIED: ComparisonWish
COMPARISON_WISH_OFF: ComparisonWish
COMPARISON_WISH_ON: ComparisonWish

class ChatRequest(_message.Message):
    __slots__ = ("request_id", "conversation_id", "parent_response_id", "message", "history", "policy", "sampling", "comparison", "source", "consent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    conversation_id: str
    parent_response_id: str
    message: str
    history: _containers.RepeatedCompositeFieldContainer[_common_pb2.Message]
    policy: str
    sampling: _common_pb2.Sampling
    comparison: ComparisonWish
    source: _common_pb2.Source
    consent: bool
    def __init__(self, request_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., parent_response_id: _Optional[str] = ..., message: _Optional[str] = ..., history: _Optional[_Iterable[_Union[_common_pb2.Message, _Mapping]]] = ..., policy: _Optional[str] = ..., sampling: _Optional[_Union[_common_pb2.Sampling, _Mapping]] = ..., comparison: _Optional[_Union[ComparisonWish, str]] = ..., source: _Optional[_Union[_common_pb2.Source, str]] = ..., consent: _Optional[bool] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("sequence", "started", "delta", "answer_finished", "finished")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FINISHED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    started: ChatStarted
    delta: TextDelta
    answer_finished: AnswerFinished
    finished: ChatFinished
    def __init__(self, sequence: _Optional[int] = ..., started: _Optional[_Union[ChatStarted, _Mapping]] = ..., delta: _Optional[_Union[TextDelta, _Mapping]] = ..., answer_finished: _Optional[_Union[AnswerFinished, _Mapping]] = ..., finished: _Optional[_Union[ChatFinished, _Mapping]] = ...) -> None: ...

class ChatStarted(_message.Message):
    __slots__ = ("conversation_id", "answers", "feedback_ticket", "no_feedback_reason", "item_id")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_TICKET_FIELD_NUMBER: _ClassVar[int]
    NO_FEEDBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    answers: _containers.RepeatedCompositeFieldContainer[AnswerHead]
    feedback_ticket: str
    no_feedback_reason: str
    item_id: str
    def __init__(self, conversation_id: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[AnswerHead, _Mapping]]] = ..., feedback_ticket: _Optional[str] = ..., no_feedback_reason: _Optional[str] = ..., item_id: _Optional[str] = ...) -> None: ...

class AnswerHead(_message.Message):
    __slots__ = ("response_id", "side", "policy_version")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    side: _common_pb2.Side
    policy_version: str
    def __init__(self, response_id: _Optional[str] = ..., side: _Optional[_Union[_common_pb2.Side, str]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class TextDelta(_message.Message):
    __slots__ = ("response_id", "text", "tokens")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    text: str
    tokens: int
    def __init__(self, response_id: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class AnswerFinished(_message.Message):
    __slots__ = ("response_id", "finish_reason", "tokens")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    finish_reason: _common_pb2.FinishReason
    tokens: int
    def __init__(self, response_id: _Optional[str] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., tokens: _Optional[int] = ...) -> None: ...

class ChatFinished(_message.Message):
    __slots__ = ("prompt_tokens",)
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ...) -> None: ...

class GetConversationRequest(_message.Message):
    __slots__ = ("conversation_id",)
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    def __init__(self, conversation_id: _Optional[str] = ...) -> None: ...

class GetConversationResponse(_message.Message):
    __slots__ = ("turns",)
    TURNS_FIELD_NUMBER: _ClassVar[int]
    turns: _containers.RepeatedCompositeFieldContainer[ConversationTurn]
    def __init__(self, turns: _Optional[_Iterable[_Union[ConversationTurn, _Mapping]]] = ...) -> None: ...

class ConversationTurn(_message.Message):
    __slots__ = ("response_id", "parent_response_id", "message", "text", "continued")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    parent_response_id: str
    message: str
    text: str
    continued: bool
    def __init__(self, response_id: _Optional[str] = ..., parent_response_id: _Optional[str] = ..., message: _Optional[str] = ..., text: _Optional[str] = ..., continued: _Optional[bool] = ...) -> None: ...

class ResumeChatRequest(_message.Message):
    __slots__ = ("response_id", "after")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    after: int
    def __init__(self, response_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class ResumeChatResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: ChatResponse
    def __init__(self, chunk: _Optional[_Union[ChatResponse, _Mapping]] = ...) -> None: ...
