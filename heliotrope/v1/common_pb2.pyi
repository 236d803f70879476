from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_HUMAN: _ClassVar[Source]
    SOURCE_SIMULATED: _ClassVar[Source]
    SOURCE_AI: _ClassVar[Source]
    SOURCE_AUTO: _ClassVar[Source]
    SOURCE_IMPORTED: _ClassVar[Source]

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_CHAT: _ClassVar[Purpose]
    PURPOSE_EVALUATION: _ClassVar[Purpose]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
    FINISH_REASON_LOST: _ClassVar[FinishReason]

class Propensity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROPENSITY_UNSPECIFIED: _ClassVar[Propensity]
    PROPENSITY_PROCESSED: _ClassVar[Propensity]
    PROPENSITY_NONE: _ClassVar[Propensity]

class HistoryKeeper(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HISTORY_KEEPER_UNSPECIFIED: _ClassVar[HistoryKeeper]
    HISTORY_KEEPER_SERVER: _ClassVar[HistoryKeeper]
    HISTORY_KEEPER_CLIENT: _ClassVar[HistoryKeeper]

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_A: _ClassVar[Side]
    SIDE_B: _ClassVar[Side]
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
SOURCE_UNSPECIFIED: Source
SOURCE_HUMAN: Source
SOURCE_SIMULATED: Source
SOURCE_AI: Source
SOURCE_AUTO: Source
SOURCE_IMPORTED: Source
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_CHAT: Purpose
PURPOSE_EVALUATION: Purpose
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason
FINISH_REASON_LOST: FinishReason
PROPENSITY_UNSPECIFIED: Propensity
PROPENSITY_PROCESSED: Propensity
PROPENSITY_NONE: Propensity
HISTORY_KEEPER_UNSPECIFIED: HistoryKeeper
HISTORY_KEEPER_SERVER: HistoryKeeper
HISTORY_KEEPER_CLIENT: HistoryKeeper
SIDE_UNSPECIFIED: Side
SIDE_A: Side
SIDE_B: Side

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    content: str
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., content: _Optional[str] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "max_tokens")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    max_tokens: int
    def __init__(self, temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("base_digest", "tokenizer", "template", "system_prompt")
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_PROMPT_FIELD_NUMBER: _ClassVar[int]
    base_digest: str
    tokenizer: str
    template: str
    system_prompt: str
    def __init__(self, base_digest: _Optional[str] = ..., tokenizer: _Optional[str] = ..., template: _Optional[str] = ..., system_prompt: _Optional[str] = ...) -> None: ...

class AdapterRef(_message.Message):
    __slots__ = ("policy_version", "digest")
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    digest: str
    def __init__(self, policy_version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...
