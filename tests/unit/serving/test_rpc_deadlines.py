"""What a caller's own deadline becomes on its way to the handler."""

import asyncio
from pathlib import Path

import pytest
from google.protobuf.message import Message

from retrank.contract.ranking import BatchRequest, BatchResponse
from retrank.serving.recommender import Recommender
from retrank.serving.rpc.methods import Call, methods_of
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.service import Service
from retrank.serving.telemetry.facade import Telemetry


class NotingService(Service):
    """Notes how long a batch may take."""

    allowed_ms: int | None = None

    def batch(
        self, request: BatchRequest, tenant: str = "", request_id: str | None = None, deadline_ms: int | None = None
    ) -> BatchResponse:
        self.allowed_ms = deadline_ms
        return super().batch(request, tenant, request_id, deadline_ms)


async def _answered(service: Service, call: Call) -> Message:
    return await methods_of(service, Telemetry())["retrank.v1.Recommender"]["RecommendBatch"].answer(call)


@pytest.mark.parametrize(("remaining_s", "allowed_ms"), [(0.05, 50), (0.0, 1), (3_600.0, 60_000), (None, None)])
def test_all_parts_of_a_batch_share_the_deadline_of_the_call(
    tiny_bundle: Path, remaining_s: float | None, allowed_ms: int | None
) -> None:
    service = NotingService.over(Recommender.open(tiny_bundle))
    assert isinstance(service, NotingService)
    call = Call("r", remaining_s, pb.BatchRequest(requests=[pb.RecommendRequest(k=2)]))
    answer = asyncio.run(_answered(service, call))
    assert isinstance(answer, pb.BatchResponse)
    assert service.allowed_ms == allowed_ms
    if allowed_ms is None:
        assert len(answer.answers[0].slate.items) == 2
    assert answer.answers[0].status in (200, 504)  # in time or not, as it says
