import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Session(_message.Message):
    __slots__ = ("id", "recent")
    ID_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    recent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., recent: _Optional[_Iterable[str]] = ...) -> None: ...

class SeenPolicy(_message.Message):
    __slots__ = ("types", "days")
    TYPES_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedScalarFieldContainer[str]
    days: int
    def __init__(self, types: _Optional[_Iterable[str]] = ..., days: _Optional[int] = ...) -> None: ...

class Diversity(_message.Message):
    __slots__ = ("mode", "strength", "caps")
    class CapsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MODE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    strength: float
    caps: _containers.ScalarMap[str, int]
    def __init__(self, mode: _Optional[str] = ..., strength: _Optional[float] = ..., caps: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Explore(_message.Message):
    __slots__ = ("policy", "strength", "seed")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    policy: str
    strength: float
    seed: int
    def __init__(self, policy: _Optional[str] = ..., strength: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "anonymous_id", "session", "placement", "context", "k", "seed_items", "exclude_items", "exclude_seen", "seen", "filter", "diversity", "explore", "explain", "fields", "deadline_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    SEED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLORE_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    anonymous_id: str
    session: Session
    placement: str
    context: _struct_pb2.Struct
    k: int
    seed_items: _containers.RepeatedScalarFieldContainer[str]
    exclude_items: _containers.RepeatedScalarFieldContainer[str]
    exclude_seen: bool
    seen: SeenPolicy
    filter: _struct_pb2.Struct
    diversity: Diversity
    explore: Explore
    explain: bool
    fields: Names
    deadline_ms: int
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., anonymous_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., placement: _Optional[str] = ..., context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., k: _Optional[int] = ..., seed_items: _Optional[_Iterable[str]] = ..., exclude_items: _Optional[_Iterable[str]] = ..., exclude_seen: _Optional[bool] = ..., seen: _Optional[_Union[SeenPolicy, _Mapping]] = ..., filter: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., diversity: _Optional[_Union[Diversity, _Mapping]] = ..., explore: _Optional[_Union[Explore, _Mapping]] = ..., explain: _Optional[bool] = ..., fields: _Optional[_Union[Names, _Mapping]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RecommendRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[RecommendRequest, _Mapping]]] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "anonymous_id", "session", "placement", "context", "items", "deadline_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    anonymous_id: str
    session: Session
    placement: str
    context: _struct_pb2.Struct
    items: _containers.RepeatedScalarFieldContainer[str]
    deadline_ms: int
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., anonymous_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., placement: _Optional[str] = ..., context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., items: _Optional[_Iterable[str]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class SimilarRequest(_message.Message):
    __slots__ = ("request_id", "item_id", "k", "placement", "exclude_items", "filter", "fields", "deadline_ms")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    item_id: str
    k: int
    placement: str
    exclude_items: _containers.RepeatedScalarFieldContainer[str]
    filter: _struct_pb2.Struct
    fields: Names
    deadline_ms: int
    def __init__(self, request_id: _Optional[str] = ..., item_id: _Optional[str] = ..., k: _Optional[int] = ..., placement: _Optional[str] = ..., exclude_items: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., fields: _Optional[_Union[Names, _Mapping]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class PopularRequest(_message.Message):
    __slots__ = ("request_id", "k", "placement", "window")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    k: int
    placement: str
    window: str
    def __init__(self, request_id: _Optional[str] = ..., k: _Optional[int] = ..., placement: _Optional[str] = ..., window: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "item_id", "weight")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    code: str
    item_id: str
    weight: float
    def __init__(self, code: _Optional[str] = ..., item_id: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class SlateItem(_message.Message):
    __slots__ = ("item_id", "rank", "score", "sources", "reasons", "attributes", "propensity")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    rank: int
    score: float
    sources: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    attributes: _struct_pb2.Struct
    propensity: float
    def __init__(self, item_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., sources: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., propensity: _Optional[float] = ...) -> None: ...

class BundleInfo(_message.Message):
    __slots__ = ("id", "created_at", "model")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    id: str
    created_at: _timestamp_pb2.Timestamp
    model: str
    def __init__(self, id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Degraded(_message.Message):
    __slots__ = ("is_degraded", "reasons", "stages_skipped")
    IS_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    STAGES_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    is_degraded: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    stages_skipped: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, is_degraded: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., stages_skipped: _Optional[_Iterable[str]] = ...) -> None: ...

class ExperimentInfo(_message.Message):
    __slots__ = ("id", "variant")
    ID_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    id: str
    variant: str
    def __init__(self, id: _Optional[str] = ..., variant: _Optional[str] = ...) -> None: ...

class SlateResponse(_message.Message):
    __slots__ = ("request_id", "recommendation_id", "items", "bundle", "experiment", "degraded", "took_ms")
    class TookMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    recommendation_id: str
    items: _containers.RepeatedCompositeFieldContainer[SlateItem]
    bundle: BundleInfo
    experiment: ExperimentInfo
    degraded: Degraded
    took_ms: _containers.ScalarMap[str, float]
    def __init__(self, request_id: _Optional[str] = ..., recommendation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[SlateItem, _Mapping]]] = ..., bundle: _Optional[_Union[BundleInfo, _Mapping]] = ..., experiment: _Optional[_Union[ExperimentInfo, _Mapping]] = ..., degraded: _Optional[_Union[Degraded, _Mapping]] = ..., took_ms: _Optional[_Mapping[str, float]] = ...) -> None: ...

class RankedItem(_message.Message):
    __slots__ = ("item_id", "rank", "score")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    rank: int
    score: float
    def __init__(self, item_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("request_id", "items", "bundle", "degraded", "took_ms")
    class TookMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    bundle: BundleInfo
    degraded: Degraded
    took_ms: _containers.ScalarMap[str, float]
    def __init__(self, request_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., bundle: _Optional[_Union[BundleInfo, _Mapping]] = ..., degraded: _Optional[_Union[Degraded, _Mapping]] = ..., took_ms: _Optional[_Mapping[str, float]] = ...) -> None: ...

class FieldProblem(_message.Message):
    __slots__ = ("pointer", "detail")
    POINTER_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    pointer: str
    detail: str
    def __init__(self, pointer: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("type", "title", "status", "detail", "instance", "code", "errors")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldProblem]
    def __init__(self, type: _Optional[str] = ..., title: _Optional[str] = ..., status: _Optional[int] = ..., detail: _Optional[str] = ..., instance: _Optional[str] = ..., code: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldProblem, _Mapping]]] = ...) -> None: ...

class BatchItem(_message.Message):
    __slots__ = ("status", "slate", "problem")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SLATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    status: int
    slate: SlateResponse
    problem: Problem
    def __init__(self, status: _Optional[int] = ..., slate: _Optional[_Union[SlateResponse, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("request_id", "answers")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    answers: _containers.RepeatedCompositeFieldContainer[BatchItem]
    def __init__(self, request_id: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[BatchItem, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "type", "item_id", "user_id", "anonymous_id", "session_id", "at", "name", "value", "recommendation_token", "placement", "context")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    type: str
    item_id: str
    user_id: str
    anonymous_id: str
    session_id: str
    at: _timestamp_pb2.Timestamp
    name: str
    value: float
    recommendation_token: str
    placement: str
    context: _struct_pb2.Struct
    def __init__(self, event_id: _Optional[str] = ..., type: _Optional[str] = ..., item_id: _Optional[str] = ..., user_id: _Optional[str] = ..., anonymous_id: _Optional[str] = ..., session_id: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., name: _Optional[str] = ..., value: _Optional[float] = ..., recommendation_token: _Optional[str] = ..., placement: _Optional[str] = ..., context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class RejectedEvent(_message.Message):
    __slots__ = ("index", "event_id", "detail")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    index: int
    event_id: str
    detail: str
    def __init__(self, index: _Optional[int] = ..., event_id: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class EventReceipt(_message.Message):
    __slots__ = ("accepted", "duplicates", "rejected")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedEvent]
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedEvent, _Mapping]]] = ...) -> None: ...

class ItemChange(_message.Message):
    __slots__ = ("item_id", "action", "attributes", "available")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    action: str
    attributes: _struct_pb2.Struct
    available: bool
    def __init__(self, item_id: _Optional[str] = ..., action: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., available: _Optional[bool] = ...) -> None: ...

class ChangeRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemChange]
    def __init__(self, items: _Optional[_Iterable[_Union[ItemChange, _Mapping]]] = ...) -> None: ...

class CatalogueReceipt(_message.Message):
    __slots__ = ("version", "changed", "unknown", "offered")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    version: int
    changed: int
    unknown: _containers.RepeatedScalarFieldContainer[str]
    offered: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., changed: _Optional[int] = ..., unknown: _Optional[_Iterable[str]] = ..., offered: _Optional[_Iterable[str]] = ...) -> None: ...

class UserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class Erased(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    def __init__(self, entries: _Optional[int] = ...) -> None: ...

class UserExport(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    def __init__(self, entries: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ...) -> None: ...
