from heliotrope.v1 import common_pb2 as _common_pb2
from heliotrope.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Slot(_message.Message):
    __slots__ = ("use", "adapter", "digest", "in_flight")
    USE_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    use: str
    adapter: str
    digest: str
    in_flight: int
    def __init__(self, use: _Optional[str] = ..., adapter: _Optional[str] = ..., digest: _Optional[str] = ..., in_flight: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("live", "last_good", "slots", "in_flight", "uptime_seconds", "events", "base_digest", "rollout_mode", "epoch", "in_flight_at_last_swap", "lora_ops", "slot_capacity", "in_flight_on_base", "engine_start_seconds", "ready_seconds", "engine_available", "engine_restarts", "outbox")
    class EventsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LIVE_FIELD_NUMBER: _ClassVar[int]
    LAST_GOOD_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_MODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_AT_LAST_SWAP_FIELD_NUMBER: _ClassVar[int]
    LORA_OPS_FIELD_NUMBER: _ClassVar[int]
    SLOT_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_ON_BASE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    READY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_FIELD_NUMBER: _ClassVar[int]
    live: str
    last_good: str
    slots: _containers.RepeatedCompositeFieldContainer[Slot]
    in_flight: int
    uptime_seconds: float
    events: _containers.ScalarMap[str, int]
    base_digest: str
    rollout_mode: str
    epoch: int
    in_flight_at_last_swap: int
    lora_ops: str
    slot_capacity: int
    in_flight_on_base: int
    engine_start_seconds: float
    ready_seconds: float
    engine_available: bool
    engine_restarts: int
    outbox: OutboxStatus
    def __init__(self, live: _Optional[str] = ..., last_good: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., in_flight: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., events: _Optional[_Mapping[str, int]] = ..., base_digest: _Optional[str] = ..., rollout_mode: _Optional[str] = ..., epoch: _Optional[int] = ..., in_flight_at_last_swap: _Optional[int] = ..., lora_ops: _Optional[str] = ..., slot_capacity: _Optional[int] = ..., in_flight_on_base: _Optional[int] = ..., engine_start_seconds: _Optional[float] = ..., ready_seconds: _Optional[float] = ..., engine_available: _Optional[bool] = ..., engine_restarts: _Optional[int] = ..., outbox: _Optional[_Union[OutboxStatus, _Mapping]] = ...) -> None: ...

class OutboxStatus(_message.Message):
    __slots__ = ("depth", "oldest_seconds", "capacity", "connected", "failures", "resent", "quarantined", "last_error")
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    OLDEST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    RESENT_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    depth: int
    oldest_seconds: float
    capacity: int
    connected: bool
    failures: int
    resent: int
    quarantined: int
    last_error: str
    def __init__(self, depth: _Optional[int] = ..., oldest_seconds: _Optional[float] = ..., capacity: _Optional[int] = ..., connected: _Optional[bool] = ..., failures: _Optional[int] = ..., resent: _Optional[int] = ..., quarantined: _Optional[int] = ..., last_error: _Optional[str] = ...) -> None: ...

class TailFeedbackRequest(_message.Message):
    __slots__ = ("after", "stop_at_end")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_END_FIELD_NUMBER: _ClassVar[int]
    after: int
    stop_at_end: bool
    def __init__(self, after: _Optional[int] = ..., stop_at_end: _Optional[bool] = ...) -> None: ...

class TailFeedbackResponse(_message.Message):
    __slots__ = ("position", "event")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    position: int
    event: _events_pb2.Event
    def __init__(self, position: _Optional[int] = ..., event: _Optional[_Union[_events_pb2.Event, _Mapping]] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("format", "sources")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    format: str
    sources: _containers.RepeatedScalarFieldContainer[_common_pb2.Source]
    def __init__(self, format: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.Source, str]]] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("data", "rows")
    DATA_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    rows: int
    def __init__(self, data: _Optional[bytes] = ..., rows: _Optional[int] = ...) -> None: ...

class ReplayRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VersionCheck(_message.Message):
    __slots__ = ("policy_version", "agrees", "examples", "erased", "missing", "note")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGREES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    agrees: bool
    examples: int
    erased: int
    missing: int
    note: str
    def __init__(self, policy_version: _Optional[str] = ..., agrees: _Optional[bool] = ..., examples: _Optional[int] = ..., erased: _Optional[int] = ..., missing: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class ReplayResponse(_message.Message):
    __slots__ = ("agree", "hash_before", "hash_after", "examples", "versions", "held_only_here")
    AGREE_FIELD_NUMBER: _ClassVar[int]
    HASH_BEFORE_FIELD_NUMBER: _ClassVar[int]
    HASH_AFTER_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    HELD_ONLY_HERE_FIELD_NUMBER: _ClassVar[int]
    agree: bool
    hash_before: str
    hash_after: str
    examples: int
    versions: _containers.RepeatedCompositeFieldContainer[VersionCheck]
    held_only_here: int
    def __init__(self, agree: _Optional[bool] = ..., hash_before: _Optional[str] = ..., hash_after: _Optional[str] = ..., examples: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[VersionCheck, _Mapping]]] = ..., held_only_here: _Optional[int] = ...) -> None: ...

class ListQuarantineRequest(_message.Message):
    __slots__ = ("limit", "before", "reason")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    limit: int
    before: int
    reason: str
    def __init__(self, limit: _Optional[int] = ..., before: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class QuarantinedRecord(_message.Message):
    __slots__ = ("position", "reason", "number", "place", "detail", "event_id", "at", "size")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    position: int
    reason: str
    number: int
    place: str
    detail: str
    event_id: str
    at: float
    size: int
    def __init__(self, position: _Optional[int] = ..., reason: _Optional[str] = ..., number: _Optional[int] = ..., place: _Optional[str] = ..., detail: _Optional[str] = ..., event_id: _Optional[str] = ..., at: _Optional[float] = ..., size: _Optional[int] = ...) -> None: ...

class ListQuarantineResponse(_message.Message):
    __slots__ = ("records", "counts", "refused")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[QuarantinedRecord]
    counts: _containers.ScalarMap[str, int]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedEvent]
    def __init__(self, records: _Optional[_Iterable[_Union[QuarantinedRecord, _Mapping]]] = ..., counts: _Optional[_Mapping[str, int]] = ..., refused: _Optional[_Iterable[_Union[RefusedEvent, _Mapping]]] = ...) -> None: ...

class RefusedEvent(_message.Message):
    __slots__ = ("event_id", "reason")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    reason: str
    def __init__(self, event_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReplayQuarantineRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplayQuarantineResponse(_message.Message):
    __slots__ = ("taken", "stay", "sent_again")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    STAY_FIELD_NUMBER: _ClassVar[int]
    SENT_AGAIN_FIELD_NUMBER: _ClassVar[int]
    taken: int
    stay: int
    sent_again: int
    def __init__(self, taken: _Optional[int] = ..., stay: _Optional[int] = ..., sent_again: _Optional[int] = ...) -> None: ...

class GetLineageRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetLineageResponse(_message.Message):
    __slots__ = ("lineage_json",)
    LINEAGE_JSON_FIELD_NUMBER: _ClassVar[int]
    lineage_json: str
    def __init__(self, lineage_json: _Optional[str] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("user", "request_id")
    USER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user: str
    request_id: str
    def __init__(self, user: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ("erasure_id",)
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    def __init__(self, erasure_id: _Optional[str] = ...) -> None: ...
