from services.grpc.generated.longreach.v1 import chat_pb2 as _chat_pb2
from services.grpc.generated.longreach.v1 import complete_pb2 as _complete_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STATE_UNSPECIFIED: _ClassVar[ReplicaState]
    REPLICA_STATE_READY: _ClassVar[ReplicaState]
    REPLICA_STATE_SUSPECT: _ClassVar[ReplicaState]
    REPLICA_STATE_DRAINING: _ClassVar[ReplicaState]

class ExplainOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_OUTCOME_UNSPECIFIED: _ClassVar[ExplainOutcome]
    EXPLAIN_OUTCOME_DECISION: _ClassVar[ExplainOutcome]
    EXPLAIN_OUTCOME_TOO_LONG: _ClassVar[ExplainOutcome]
    EXPLAIN_OUTCOME_NO_ENDPOINT: _ClassVar[ExplainOutcome]
    EXPLAIN_OUTCOME_SATURATED: _ClassVar[ExplainOutcome]
REPLICA_STATE_UNSPECIFIED: ReplicaState
REPLICA_STATE_READY: ReplicaState
REPLICA_STATE_SUSPECT: ReplicaState
REPLICA_STATE_DRAINING: ReplicaState
EXPLAIN_OUTCOME_UNSPECIFIED: ExplainOutcome
EXPLAIN_OUTCOME_DECISION: ExplainOutcome
EXPLAIN_OUTCOME_TOO_LONG: ExplainOutcome
EXPLAIN_OUTCOME_NO_ENDPOINT: ExplainOutcome
EXPLAIN_OUTCOME_SATURATED: ExplainOutcome

class PoolsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PoolsResponse(_message.Message):
    __slots__ = ("pools", "state_store_age_s")
    POOLS_FIELD_NUMBER: _ClassVar[int]
    STATE_STORE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    pools: _containers.RepeatedCompositeFieldContainer[Pool]
    state_store_age_s: float
    def __init__(self, pools: _Optional[_Iterable[_Union[Pool, _Mapping]]] = ..., state_store_age_s: _Optional[float] = ...) -> None: ...

class Pool(_message.Message):
    __slots__ = ("name", "model", "max_context_tokens", "is_static", "ready", "suspect", "draining")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_STATIC_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    max_context_tokens: int
    is_static: bool
    ready: int
    suspect: int
    draining: int
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., max_context_tokens: _Optional[int] = ..., is_static: _Optional[bool] = ..., ready: _Optional[int] = ..., suspect: _Optional[int] = ..., draining: _Optional[int] = ...) -> None: ...

class ReplicasRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class ReplicasResponse(_message.Message):
    __slots__ = ("replicas",)
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    def __init__(self, replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("id", "pool", "url", "state", "running", "waiting", "max_running", "kv_use_ratio", "prefill_tokens", "is_drained_by_operator")
    ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    KV_USE_RATIO_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_DRAINED_BY_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    pool: str
    url: str
    state: ReplicaState
    running: int
    waiting: int
    max_running: int
    kv_use_ratio: float
    prefill_tokens: int
    is_drained_by_operator: bool
    def __init__(self, id: _Optional[str] = ..., pool: _Optional[str] = ..., url: _Optional[str] = ..., state: _Optional[_Union[ReplicaState, str]] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., max_running: _Optional[int] = ..., kv_use_ratio: _Optional[float] = ..., prefill_tokens: _Optional[int] = ..., is_drained_by_operator: _Optional[bool] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("chat", "complete")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    chat: _chat_pb2.ChatRequest
    complete: _complete_pb2.CompleteRequest
    def __init__(self, chat: _Optional[_Union[_chat_pb2.ChatRequest, _Mapping]] = ..., complete: _Optional[_Union[_complete_pb2.CompleteRequest, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("outcome", "pool", "replica", "reason", "explanation")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    outcome: ExplainOutcome
    pool: str
    replica: str
    reason: str
    explanation: str
    def __init__(self, outcome: _Optional[_Union[ExplainOutcome, str]] = ..., pool: _Optional[str] = ..., replica: _Optional[str] = ..., reason: _Optional[str] = ..., explanation: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("replica", "undo", "for_s")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    FOR_S_FIELD_NUMBER: _ClassVar[int]
    replica: str
    undo: bool
    for_s: float
    def __init__(self, replica: _Optional[str] = ..., undo: _Optional[bool] = ..., for_s: _Optional[float] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("unfinished",)
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    unfinished: int
    def __init__(self, unfinished: _Optional[int] = ...) -> None: ...
