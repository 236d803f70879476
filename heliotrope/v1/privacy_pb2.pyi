from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetKeysRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PersonKey(_message.Message):
    __slots__ = ("id", "secret")
    ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    secret: bytes
    def __init__(self, id: _Optional[bytes] = ..., secret: _Optional[bytes] = ...) -> None: ...

class GetKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[PersonKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[PersonKey, _Mapping]]] = ...) -> None: ...

class ConfirmErasureRequest(_message.Message):
    __slots__ = ("erasure_id", "program")
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    program: str
    def __init__(self, erasure_id: _Optional[str] = ..., program: _Optional[str] = ...) -> None: ...

class ConfirmErasureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListErasuresRequest(_message.Message):
    __slots__ = ("program",)
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    program: str
    def __init__(self, program: _Optional[str] = ...) -> None: ...

class ListErasuresResponse(_message.Message):
    __slots__ = ("erasure_ids",)
    ERASURE_IDS_FIELD_NUMBER: _ClassVar[int]
    erasure_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, erasure_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetErasureRequest(_message.Message):
    __slots__ = ("erasure_id",)
    ERASURE_ID_FIELD_NUMBER: _ClassVar[int]
    erasure_id: str
    def __init__(self, erasure_id: _Optional[str] = ...) -> None: ...

class GetErasureResponse(_message.Message):
    __slots__ = ("done", "policy_versions", "reward_models")
    DONE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REWARD_MODELS_FIELD_NUMBER: _ClassVar[int]
    done: _containers.RepeatedScalarFieldContainer[str]
    policy_versions: _containers.RepeatedScalarFieldContainer[str]
    reward_models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, done: _Optional[_Iterable[str]] = ..., policy_versions: _Optional[_Iterable[str]] = ..., reward_models: _Optional[_Iterable[str]] = ...) -> None: ...
