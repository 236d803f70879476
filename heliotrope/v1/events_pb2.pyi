import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from heliotrope.v1 import common_pb2 as _common_pb2
from heliotrope.v1 import feedback_pb2 as _feedback_pb2
from heliotrope.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("event_id", "producer_id", "sequence", "time", "tenant", "user", "conversation_id", "source", "purpose", "consent", "schema", "origin", "sealed", "response_started", "response_served", "feedback_given", "feedback_retracted", "consent_changed", "erasure_requested", "erasure_done", "policy_state_changed")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_STARTED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SERVED_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_GIVEN_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_RETRACTED_FIELD_NUMBER: _ClassVar[int]
    CONSENT_CHANGED_FIELD_NUMBER: _ClassVar[int]
    ERASURE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    ERASURE_DONE_FIELD_NUMBER: _ClassVar[int]
    POLICY_STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    producer_id: str
    sequence: int
    time: _timestamp_pb2.Timestamp
    tenant: str
    user: str
    conversation_id: str
    source: _common_pb2.Source
    purpose: _common_pb2.Purpose
    consent: bool
    schema: int
    origin: str
    sealed: bytes
    response_started: ResponseStarted
    response_served: ResponseServed
    feedback_given: FeedbackGiven
    feedback_retracted: FeedbackRetracted
    consent_changed: ConsentChanged
    erasure_requested: ErasureRequested
    erasure_done: ErasureDone
    policy_state_changed: PolicyStateChanged
    def __init__(self, event_id: _Optional[str] = ..., producer_id: _Optional[str] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tenant: _Optional[str] = ..., user: _Optional[str] = ..., conversation_id: _Optional[str] = ..., source: _Optional[_Union[_common_pb2.Source, str]] = ..., purpose: _Optional[_Union[_common_pb2.Purpose, str]] = ..., consent: _Optional[bool] = ..., schema: _Optional[int] = ..., origin: _Optional[str] = ..., sealed: _Optional[bytes] = ..., response_started: _Optional[_Union[ResponseStarted, _Mapping]] = ..., response_served: _Optional[_Union[ResponseServed, _Mapping]] = ..., feedback_given: _Optional[_Union[FeedbackGiven, _Mapping]] = ..., feedback_retracted: _Optional[_Union[FeedbackRetracted, _Mapping]] = ..., consent_changed: _Optional[_Union[ConsentChanged, _Mapping]] = ..., erasure_requested: _Optional[_Union[ErasureRequested, _Mapping]] = ..., erasure_done: _Optional[_Union[ErasureDone, _Mapping]] = ..., policy_state_changed: _Optional[_Union[PolicyStateChanged, _Mapping]] = ...) -> None: ...

class ResponseStarted(_message.Message):
    __slots__ = ("response_id", "parent_response_id", "request_id", "adapter", "sampling", "side", "sibling_response_ids", "arm_probability", "item_id", "history")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    SIBLING_RESPONSE_IDS_FIELD_NUMBER: _ClassVar[int]
    ARM_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    parent_response_id: str
    request_id: str
    adapter: _common_pb2.AdapterRef
    sampling: _common_pb2.Sampling
    side: _common_pb2.Side
    sibling_response_ids: _containers.RepeatedScalarFieldContainer[str]
    arm_probability: float
    item_id: str
    history: _common_pb2.HistoryKeeper
    def __init__(self, response_id: _Optional[str] = ..., parent_response_id: _Optional[str] = ..., request_id: _Optional[str] = ..., adapter: _Optional[_Union[_common_pb2.AdapterRef, _Mapping]] = ..., sampling: _Optional[_Union[_common_pb2.Sampling, _Mapping]] = ..., side: _Optional[_Union[_common_pb2.Side, str]] = ..., sibling_response_ids: _Optional[_Iterable[str]] = ..., arm_probability: _Optional[float] = ..., item_id: _Optional[str] = ..., history: _Optional[_Union[_common_pb2.HistoryKeeper, str]] = ...) -> None: ...

class ResponseServed(_message.Message):
    __slots__ = ("response_id", "started", "messages", "text", "prompt_token_ids", "response_token_ids", "logprobs", "propensity", "envelope", "finish_reason", "first_token_seconds", "total_seconds", "gestures")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GESTURES_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    started: ResponseStarted
    messages: _containers.RepeatedCompositeFieldContainer[_common_pb2.Message]
    text: str
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    response_token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    propensity: _common_pb2.Propensity
    envelope: _common_pb2.Envelope
    finish_reason: _common_pb2.FinishReason
    first_token_seconds: float
    total_seconds: float
    gestures: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, response_id: _Optional[str] = ..., started: _Optional[_Union[ResponseStarted, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[_common_pb2.Message, _Mapping]]] = ..., text: _Optional[str] = ..., prompt_token_ids: _Optional[_Iterable[int]] = ..., response_token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[float]] = ..., propensity: _Optional[_Union[_common_pb2.Propensity, str]] = ..., envelope: _Optional[_Union[_common_pb2.Envelope, _Mapping]] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., first_token_seconds: _Optional[float] = ..., total_seconds: _Optional[float] = ..., gestures: _Optional[_Iterable[str]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("response_id", "adapter", "side", "tokens_sent")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_SENT_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    adapter: _common_pb2.AdapterRef
    side: _common_pb2.Side
    tokens_sent: int
    def __init__(self, response_id: _Optional[str] = ..., adapter: _Optional[_Union[_common_pb2.AdapterRef, _Mapping]] = ..., side: _Optional[_Union[_common_pb2.Side, str]] = ..., tokens_sent: _Optional[int] = ...) -> None: ...

class FeedbackGiven(_message.Message):
    __slots__ = ("feedback", "targets", "item_id")
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    feedback: _feedback_pb2.Feedback
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    item_id: str
    def __init__(self, feedback: _Optional[_Union[_feedback_pb2.Feedback, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., item_id: _Optional[str] = ...) -> None: ...

class FeedbackRetracted(_message.Message):
    __slots__ = ("feedback_event_id",)
    FEEDBACK_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    feedback_event_id: str
    def __init__(self, feedback_event_id: _Optional[str] = ...) -> None: ...

class ConsentChanged(_message.Message):
    __slots__ = ("may_learn",)
    MAY_LEARN_FIELD_NUMBER: _ClassVar[int]
    may_learn: bool
    def __init__(self, may_learn: _Optional[bool] = ...) -> None: ...

class ErasureRequested(_message.Message):
    __slots__ = ("erasure_id", "user")
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    user: str
    def __init__(self, erasure_id: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class ErasureDone(_message.Message):
    __slots__ = ("erasure_id", "program")
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    program: str
    def __init__(self, erasure_id: _Optional[str] = ..., program: _Optional[str] = ...) -> None: ...

class PolicyStateChanged(_message.Message):
    __slots__ = ("policy_version", "digest", "to", "epoch", "actor", "reason")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    digest: str
    to: _policy_pb2.PolicyState
    epoch: int
    actor: str
    reason: str
    def __init__(self, policy_version: _Optional[str] = ..., digest: _Optional[str] = ..., to: _Optional[_Union[_policy_pb2.PolicyState, str]] = ..., epoch: _Optional[int] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., **kwargs) -> None: ...
