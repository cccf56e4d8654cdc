"""What only gRPC has: statuses with details, native deadlines, metadata, health; and the gate it shares with REST."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from protocol_callers import detail_of
from rpc_world import Served, served

from retrank.contract.errors import ConfigError
from retrank.serving.guard.drain import FOLDER_VARIABLE
from retrank.serving.guard.keys import KeyFile, new_key, write_key_file
from retrank.serving.guard.settings import AuthSettings, GuardSettings, LaneSettings, QuotaSettings
from retrank.serving.ingress import free_port
from retrank.serving.recommender import Recommender
from retrank.serving.rpc.front import Around
from retrank.serving.rpc.messages import MAX_DEPTH, TooDeep, fields_of_message
from retrank.serving.rpc.server import answering
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.rpc.v1 import recommender_pb2_grpc as stubs
from retrank.serving.rpc_settings import RpcSettings
from retrank.serving.service import Service
from retrank.serving.settings import Settings, refuse_to_open
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.web.protection import Protection, open_protection

WAIT_S = 30.0
RECOMMEND = "/retrank.v1.Recommender/Recommend"
_NUMBERS = st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@contextmanager
def _guarded(recommender: Recommender, folder: Path, **guard: Any) -> Iterator[tuple[Served, Protection]]:
    protection = open_protection(GuardSettings(**guard), TelemetrySettings(), {FOLDER_VARIABLE: str(folder)})
    with served(Service.over(recommender), protection) as where:
        yield where, protection


def _recommender(channel: grpc.Channel) -> Any:
    return stubs.RecommenderStub(channel)  # type: ignore[no-untyped-call]


def _refused(call: Any, *arguments: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=WAIT_S, **options)
    return caught.value


def test_keys_say_who_calls_and_what_they_may(recommender: Recommender, tmp_path: Path) -> None:
    made = {
        scope: new_key("shop", frozenset({scope}), pepper=b"", random=secrets.token_bytes, now=datetime.now(UTC))
        for scope in ("read", "ingest")
    }
    write_key_file(tmp_path / "keys.json", KeyFile(keys=tuple(key.record for key in made.values())))
    with (
        _guarded(recommender, tmp_path, auth=AuthSettings(key_file=tmp_path / "keys.json")) as (where, _),
        grpc.insecure_channel(where.rpc) as channel,
    ):

        def ask(token: str) -> Any:
            return [("authorization", f"Bearer {token}")]

        popular = _recommender(channel).Popular
        unknown = _refused(popular, pb.PopularRequest(k=3))
        wrong = _refused(popular, pb.PopularRequest(k=3), metadata=ask(made["ingest"].token))
        export = stubs.UsersStub(channel).Export  # type: ignore[no-untyped-call]
        curious = [_refused(export, pb.UserRequest(user_id="u1"), metadata=ask(key.token)) for key in made.values()]
        assert len(popular(pb.PopularRequest(k=3), timeout=WAIT_S, metadata=ask(made["read"].token)).items) == 3
    assert unknown.code() == grpc.StatusCode.UNAUTHENTICATED
    assert wrong.code() == grpc.StatusCode.PERMISSION_DENIED
    assert [one.code() for one in curious] == [grpc.StatusCode.PERMISSION_DENIED] * 2
    info = detail_of(wrong, error_details_pb2.ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain) == ("forbidden", "retrank")


def test_one_quota_holds_for_both_protocols_and_says_when_to_come_back(
    recommender: Recommender, tmp_path: Path
) -> None:
    with (
        _guarded(recommender, tmp_path, quota=QuotaSettings(per_second=0.001, burst=2)) as (where, _),
        grpc.insecure_channel(where.rpc) as channel,
    ):
        assert httpx.get(f"{where.url}/v1/popular").status_code == 200
        answer, call = _recommender(channel).Popular.with_call(pb.PopularRequest(), timeout=WAIT_S)
        assert len(answer.items) == 10
        assert dict(call.trailing_metadata())["ratelimit-remaining"] == "0"
        refused = _refused(_recommender(channel).Popular, pb.PopularRequest())
        assert httpx.get(f"{where.url}/v1/popular").status_code == 429
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = detail_of(refused, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.seconds >= 1


def test_a_batch_costs_as_many_requests_as_it_holds_in_both_protocols(recommender: Recommender, tmp_path: Path) -> None:
    with (
        _guarded(recommender, tmp_path, quota=QuotaSettings(per_second=0.001, burst=6)) as (where, _),
        grpc.insecure_channel(where.rpc) as channel,
    ):
        three = pb.BatchRequest(requests=[pb.RecommendRequest(k=1)] * 3)
        _, call = _recommender(channel).RecommendBatch.with_call(three, timeout=WAIT_S)
        refused = httpx.post(f"{where.url}/v1/recommend:batch", json={"requests": [{"k": 1}] * 4})
        late = _refused(_recommender(channel).RecommendBatch, three)
        never = httpx.post(f"{where.url}/v1/recommend:batch", json={"requests": [{"k": 1}] * 7})
    assert dict(call.trailing_metadata())["ratelimit-remaining"] == "3"
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) > 1
    assert late.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(late.trailing_metadata())["ratelimit-remaining"] == "1"
    assert never.status_code == 422


def test_a_full_lane_sheds_calls_and_the_priority_is_read_from_metadata(
    recommender: Recommender, tmp_path: Path
) -> None:
    lane = LaneSettings(concurrency=1, max_queued=0, max_age_s=0.05)
    with (
        _guarded(recommender, tmp_path, batches=lane) as (where, _),
        grpc.insecure_channel(where.rpc) as channel,
    ):
        batch = pb.BatchRequest(requests=[pb.RecommendRequest(user_id="u1", k=50)] * 256)
        held = [_recommender(channel).RecommendBatch.future(batch, timeout=WAIT_S) for _ in range(4)]
        ended = [call.code() for call in held]
        odd = _refused(_recommender(channel).Popular, pb.PopularRequest(), metadata=[("x-priority", "now")])
    assert grpc.StatusCode.OK in ended
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in ended
    assert odd.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_health_follows_the_mark_of_leaving_and_asks_for_no_key(recommender: Recommender, tmp_path: Path) -> None:
    with (
        _guarded(recommender, tmp_path, auth=AuthSettings(key_file=_no_keys(tmp_path))) as (where, protection),
        grpc.insecure_channel(where.rpc) as channel,
    ):
        probe = health_pb2_grpc.HealthStub(channel)
        watched = probe.Watch(health_pb2.HealthCheckRequest(service="retrank.v1.Recommender"), timeout=WAIT_S)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        assert probe.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S).status == 1
        assert protection.gate is not None
        protection.gate.drain.begin()
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        protection.gate.drain.end()
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()


def test_the_server_describes_itself(recommender: Recommender) -> None:
    with served(Service.over(recommender)) as where, grpc.insecure_channel(where.rpc) as channel:
        known = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    ours = {f"retrank.v1.{name}" for name in ("Recommender", "Events", "Catalogue", "Users")}
    assert {*ours, "grpc.health.v1.Health"} <= known


def test_the_deadline_of_a_call_is_the_deadline_of_the_pipeline(recommender: Recommender) -> None:
    seen: list[int | None] = []

    class Watching(Service):
        def recommend(self, request: Any, tenant: str = "default") -> Any:
            seen.append(request.deadline_ms)
            return super().recommend(request, tenant)

    with served(Watching.over(recommender)) as where, grpc.insecure_channel(where.rpc) as channel:
        ask = _recommender(channel).Recommend
        ask(pb.RecommendRequest(k=1), timeout=20)
        ask(pb.RecommendRequest(k=1, deadline_ms=7_000), timeout=20)
        ask(pb.RecommendRequest(k=1, deadline_ms=50_000), timeout=20)
        ask(pb.RecommendRequest(k=1, deadline_ms=9_000))
        ask(pb.RecommendRequest(k=1))
    given, shorter, longer, alone, none = seen
    assert given is not None
    assert longer is not None
    assert 1 <= given <= 21_000  # gRPC rounds up what it sends
    assert 1 <= longer <= 21_000
    assert (shorter, alone, none) == (7_000, 9_000, None)


def test_a_call_is_named_by_its_message_else_its_metadata_else_anew(recommender: Recommender) -> None:
    with served(Service.over(recommender)) as where, grpc.insecure_channel(where.rpc) as channel:
        ask = _recommender(channel).Recommend
        metadata = [("x-request-id", "from outside")]
        answer, call = ask.with_call(pb.RecommendRequest(k=1), timeout=WAIT_S, metadata=metadata)
        assert answer.request_id == dict(call.initial_metadata())["x-request-id"] == "from outside"
        assert ask(pb.RecommendRequest(request_id="mine"), timeout=WAIT_S, metadata=metadata).request_id == "mine"
        assert ask(pb.RecommendRequest(), timeout=WAIT_S).request_id
        refused = _refused(ask, pb.RecommendRequest(k=0), metadata=metadata)
        named = detail_of(refused, error_details_pb2.RequestInfo)
        assert named is not None
        assert named.request_id == "from outside"


def test_too_much_or_something_else_is_refused_before_it_is_read(recommender: Recommender) -> None:
    with served(Service.over(recommender)) as where, grpc.insecure_channel(where.rpc) as channel:
        raw = channel.unary_unary(RECOMMEND, request_serializer=bytes, response_deserializer=bytes)
        assert _refused(raw, b"x" * (1 << 21)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _refused(raw, b"\xff\xff\xff").code() == grpc.StatusCode.INVALID_ARGUMENT
        long = Struct()
        long.update({"y" * 100_000: 1})
        refused = _refused(_recommender(channel).Recommend, pb.RecommendRequest(context=long))
        assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert channel.unary_unary(RECOMMEND)(b"", timeout=WAIT_S)


def test_what_was_not_set_up_is_unimplemented_and_a_bug_is_internal_without_its_text(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Service):
        def rank(self, request: Any, tenant: str = "default") -> Any:
            raise RuntimeError("a secret of the house")

    with served(Broken.over(recommender)) as where, grpc.insecure_channel(where.rpc) as channel:
        events = stubs.EventsStub(channel)  # type: ignore[no-untyped-call]
        assert _refused(events.Ingest, pb.EventBatch(events=[pb.Event()])).code() == grpc.StatusCode.UNIMPLEMENTED
        bug = _refused(_recommender(channel).Rank, pb.RankRequest(items=["i1"]))
    assert bug.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in bug.details()
    assert "a secret of the house" in caplog.text


def test_calls_are_counted_with_the_status_that_rest_would_give(recommender: Recommender, tmp_path: Path) -> None:
    with (
        _guarded(recommender, tmp_path) as (where, _),
        grpc.insecure_channel(where.rpc) as channel,
    ):
        _recommender(channel).Recommend(pb.RecommendRequest(placement="home"), timeout=WAIT_S)
        _refused(_recommender(channel).Recommend, pb.RecommendRequest(k=0))
        shown = httpx.get(f"{where.url}/metrics").text
    counted = f'recsys_requests_total{{placement="%s",route="{RECOMMEND}",status="%d",variant="none"}} 1.0'
    assert counted % ("home", 200) in shown
    assert counted % ("none", 422) in shown
    assert "recsys_inflight 0.0" in shown


def test_a_call_is_a_span_below_the_one_of_its_caller(recommender: Recommender) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    protection = Protection(tracer=provider.get_tracer("test"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    with served(Service.over(recommender), protection) as where, grpc.insecure_channel(where.rpc) as channel:
        metadata = [("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
        _recommender(channel).Recommend(pb.RecommendRequest(user_id="u1"), timeout=WAIT_S, metadata=metadata)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    span = spans[RECOMMEND[1:]]
    assert f"{span.context.trace_id:032x}" == trace
    assert "stage retrieve" in spans
    assert "u1" not in json.dumps({name: str(dict(one.attributes or {})) for name, one in spans.items()})


def test_several_replicas_of_a_host_answer_on_one_port(recommender: Recommender) -> None:
    settings = RpcSettings(enabled=True, port=free_port())

    async def scene() -> None:
        service = Service.over(recommender)
        async with (
            answering(service, Around(), settings),
            answering(service, Around(), settings),
            grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel,
        ):
            assert len((await _recommender(channel).Popular(pb.PopularRequest(k=2), timeout=WAIT_S)).items) == 2

    asyncio.run(scene())


def test_an_address_of_another_machine_cannot_be_listened_on(recommender: Recommender) -> None:
    async def scene() -> None:
        async with answering(Service.over(recommender), Around(), RpcSettings(host="192.0.2.1")):
            pass

    with pytest.raises(ConfigError, match=r"serving\.rpc\.port"):
        asyncio.run(scene())


def test_while_it_is_off_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys\n"
        "from retrank.serving.rpc_settings import RpcSettings\n"
        "from retrank.serving.service import Backing, Service\n"
        "from retrank.serving.web.protection import OPEN\n"
        "from retrank.serving.web.rpc_beside import rpc_lifespan\n"
        "assert rpc_lifespan(Service(None, Backing.none()), OPEN, RpcSettings()) is None\n"
        "sys.exit(f'loaded {loaded}' if (loaded := {'grpc', 'retrank.serving.rpc'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_machines_need_keys_for_grpc_too() -> None:
    opened = RpcSettings(enabled=True, host="0.0.0.0")
    with pytest.raises(ConfigError, match=r"serving\.rpc\.host=0\.0\.0\.0"):
        refuse_to_open(Settings(bundle=Path("b"), rpc=opened))
    refuse_to_open(Settings(bundle=Path("b"), rpc=opened.model_copy(update={"enabled": False})))


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_open_parts_arrive_as_json_would_bring_them(context: dict[str, Any]) -> None:
    arrived = fields_of_message(pb.RecommendRequest(context=context))
    assert arrived.get("context", {}) == json.loads(json.dumps(context))


@given(st.text(max_size=20), st.integers(0, (1 << 63) - 1), st.floats(0, 1), st.lists(st.text(max_size=5), max_size=3))
def test_what_is_set_arrives_and_what_is_not_does_not(who: str, seed: int, share: float, items: list[str]) -> None:
    explore = {"policy": "epsilon", "strength": share, "seed": seed}
    message = pb.RecommendRequest(user_id=who, k=0, explain=False, explore=explore, exclude_items=items)
    raw = pb.RecommendRequest.FromString(message.SerializeToString())
    expected = {"user_id": who, "k": 0, "explain": False, "explore": explore, "exclude_items": items}
    assert fields_of_message(raw) == {name: value for name, value in expected.items() if value != []}


def test_moments_are_written_as_the_event_log_reads_them() -> None:
    event = pb.Event(at=Timestamp(seconds=1_700_000_000, nanos=5_000_000))
    assert fields_of_message(event) == {"at": "2023-11-14T22:13:20.005Z"}
    impossible = pb.Event(at=Timestamp(seconds=1 << 62))
    assert "Z" not in fields_of_message(impossible)["at"]


def test_an_open_part_is_read_to_a_depth_and_no_deeper() -> None:
    def nested(levels: int) -> dict[str, Any]:
        return {"in": nested(levels - 1)} if levels > 1 else {}

    fields_of_message(pb.RecommendRequest(context=nested(MAX_DEPTH)))
    with pytest.raises(TooDeep):
        fields_of_message(pb.RecommendRequest(context=nested(MAX_DEPTH + 1)))


def _no_keys(folder: Path) -> Path:
    path = folder / "none.json"
    write_key_file(path, KeyFile())
    return path
