"""`retrank serve` with gRPC on: every replica of the host answers on one port."""

from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_process import outside_listeners, running

from retrank.serving.ingress import free_port
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.rpc.v1 import recommender_pb2_grpc as stubs

WAIT_S = 60.0
CONNECTIONS = 24


@pytest.mark.ray
@pytest.mark.slow
def test_replicas_share_the_grpc_port_and_stop_with_the_service(tiny_bundle: Path, tmp_path: Path) -> None:
    port = free_port()
    overrides = ("serving.rpc.enabled=true", f"serving.rpc.port={port}")
    with running(tiny_bundle, *overrides, replicas=2, log=tmp_path / "serve.log") as service:
        slate = _popular(port)
        rest = httpx.get(f"{service.url}/v1/popular", params={"k": 5}).json()
        assert [item.item_id for item in slate.items] == [item["item_id"] for item in rest["items"]]
        for _ in range(CONNECTIONS):
            assert _popular(port).items
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            probe = health_pb2_grpc.HealthStub(channel)
            assert probe.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S).status == 1
        assert outside_listeners(list(service.processes())) == []
        log = (tmp_path / "serve.log").read_text()
        assert f"gRPC on 127.0.0.1:{port}" in log
    with pytest.raises(grpc.RpcError):
        _popular(port, timeout_s=1.0)


def _popular(port: int, timeout_s: float = WAIT_S) -> pb.SlateResponse:
    """Ask over a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
        answer = stubs.RecommenderStub(channel).Popular(pb.PopularRequest(k=5), timeout=timeout_s)  # type: ignore[no-untyped-call]
        assert isinstance(answer, pb.SlateResponse)
        return answer
