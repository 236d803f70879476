import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_STATE_UNSPECIFIED: _ClassVar[PolicyState]
    POLICY_STATE_CANDIDATE: _ClassVar[PolicyState]
    POLICY_STATE_CANARY: _ClassVar[PolicyState]
    POLICY_STATE_LIVE: _ClassVar[PolicyState]
    POLICY_STATE_REJECTED: _ClassVar[PolicyState]
    POLICY_STATE_SUPERSEDED: _ClassVar[PolicyState]
    POLICY_STATE_ROLLED_BACK: _ClassVar[PolicyState]
    POLICY_STATE_PAUSED: _ClassVar[PolicyState]
    POLICY_STATE_RETIRED: _ClassVar[PolicyState]
    POLICY_STATE_FAILED: _ClassVar[PolicyState]
POLICY_STATE_UNSPECIFIED: PolicyState
POLICY_STATE_CANDIDATE: PolicyState
POLICY_STATE_CANARY: PolicyState
POLICY_STATE_LIVE: PolicyState
POLICY_STATE_REJECTED: PolicyState
POLICY_STATE_SUPERSEDED: PolicyState
POLICY_STATE_ROLLED_BACK: PolicyState
POLICY_STATE_PAUSED: PolicyState
POLICY_STATE_RETIRED: PolicyState
POLICY_STATE_FAILED: PolicyState

class Policy(_message.Message):
    __slots__ = ("policy_version", "digest", "state", "parent", "created_at", "examples", "passed", "resident", "in_flight", "reason")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    digest: str
    state: PolicyState
    parent: str
    created_at: _timestamp_pb2.Timestamp
    examples: int
    passed: bool
    resident: bool
    in_flight: int
    reason: str
    def __init__(self, policy_version: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[PolicyState, str]] = ..., parent: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., examples: _Optional[int] = ..., passed: _Optional[bool] = ..., resident: _Optional[bool] = ..., in_flight: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "epoch")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    epoch: int
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("policy_version",)
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    def __init__(self, policy_version: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy", "manifest_json")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    manifest_json: str
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class PromotePolicyRequest(_message.Message):
    __slots__ = ("policy_version", "expected_epoch", "force", "reason")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    expected_epoch: int
    force: bool
    reason: str
    def __init__(self, policy_version: _Optional[str] = ..., expected_epoch: _Optional[int] = ..., force: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class PromotePolicyResponse(_message.Message):
    __slots__ = ("live", "epoch", "in_flight_on_previous")
    LIVE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_ON_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    live: Policy
    epoch: int
    in_flight_on_previous: int
    def __init__(self, live: _Optional[_Union[Policy, _Mapping]] = ..., epoch: _Optional[int] = ..., in_flight_on_previous: _Optional[int] = ...) -> None: ...

class RollBackPolicyRequest(_message.Message):
    __slots__ = ("reason", "expected_epoch", "stop_in_flight")
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STOP_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    expected_epoch: int
    stop_in_flight: bool
    def __init__(self, reason: _Optional[str] = ..., expected_epoch: _Optional[int] = ..., stop_in_flight: _Optional[bool] = ...) -> None: ...

class RollBackPolicyResponse(_message.Message):
    __slots__ = ("live", "epoch")
    LIVE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    live: Policy
    epoch: int
    def __init__(self, live: _Optional[_Union[Policy, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class WatchPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchPoliciesResponse(_message.Message):
    __slots__ = ("policy", "epoch")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    epoch: int
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...
