from heliotrope.v1 import common_pb2 as _common_pb2
from heliotrope.v1 import feedback_pb2 as _feedback_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestedItem(_message.Message):
    __slots__ = ("item_id", "messages", "responses", "feedback", "judge", "origin")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    messages: _containers.RepeatedCompositeFieldContainer[_common_pb2.Message]
    responses: _containers.RepeatedScalarFieldContainer[str]
    feedback: _feedback_pb2.Feedback
    judge: str
    origin: str
    def __init__(self, item_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_common_pb2.Message, _Mapping]]] = ..., responses: _Optional[_Iterable[str]] = ..., feedback: _Optional[_Union[_feedback_pb2.Feedback, _Mapping]] = ..., judge: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class RejectedItem(_message.Message):
    __slots__ = ("index", "reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class IngestFeedbackRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[IngestedItem]
    def __init__(self, items: _Optional[_Iterable[_Union[IngestedItem, _Mapping]]] = ...) -> None: ...

class IngestFeedbackResponse(_message.Message):
    __slots__ = ("recorded", "repeated_items", "rejected")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    repeated_items: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedItem]
    def __init__(self, recorded: _Optional[int] = ..., repeated_items: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedItem, _Mapping]]] = ...) -> None: ...
