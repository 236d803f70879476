from heliotrope.v1 import common_pb2 as _common_pb2
from heliotrope.v1 import feedback_pb2 as _feedback_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestedItem(_message.Message):
    __slots__ = ("item_id", "messages", "responses", "feedback")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    messages: _containers.RepeatedCompositeFieldContainer[_common_pb2.Message]
    responses: _containers.RepeatedScalarFieldContainer[str]
    feedback: _feedback_pb2.Feedback
    def __init__(self, item_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_common_pb2.Message, _Mapping]]] = ..., responses: _Optional[_Iterable[str]] = ..., feedback: _Optional[_Union[_feedback_pb2.Feedback, _Mapping]] = ...) -> None: ...

class IngestFeedbackRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[IngestedItem]
    def __init__(self, items: _Optional[_Iterable[_Union[IngestedItem, _Mapping]]] = ...) -> None: ...

class IngestFeedbackResponse(_message.Message):
    __slots__ = ("recorded", "repeated_items")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    repeated_items: int
    def __init__(self, recorded: _Optional[int] = ..., repeated_items: _Optional[int] = ...) -> None: ...
