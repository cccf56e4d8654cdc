"""What protoc made of the gRPC description is under version control, and says what the contract says."""

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel
from write_rpc import MADE, PROTO, SOURCE, write

from retrank.contract import api, catalogue_changes, events, ranking
from retrank.contract.slate_options import Diversity, Explore, SeenPolicy
from retrank.serving.rpc.v1 import recommender_pb2 as pb

TWINS: dict[type[BaseModel], str] = {
    model: model.__name__
    for model in (
        api.Session, api.RecommendRequest, api.SimilarRequest, api.PopularRequest, api.Reason, api.SlateItem,
        api.BundleInfo, api.Degraded, api.ExperimentInfo, api.SlateResponse, api.FieldProblem, api.Problem,
        ranking.RankRequest, ranking.RankedItem, ranking.RankResponse, ranking.BatchRequest, ranking.BatchItem,
        ranking.BatchResponse, events.Event, events.EventBatch, events.RejectedEvent, events.EventReceipt,
        catalogue_changes.CatalogueReceipt, catalogue_changes.Erased, SeenPolicy, Diversity, Explore,
    )
} | {
    catalogue_changes.BulkItem: "ItemChange",
    catalogue_changes.BulkItems: "ChangeRequest",
    catalogue_changes.UserAsked: "UserRequest",
}  # fmt: skip


def test_making_the_modules_again_gives_the_ones_that_are_there(tmp_path: Path) -> None:
    """Run `python scripts/write_rpc.py` after a change of the description."""
    assert write(tmp_path) == 0
    made = tmp_path / PROTO.parent.relative_to(SOURCE)
    for name in MADE:
        assert (made / name).read_text() == (PROTO.parent / name).read_text(), name


@pytest.mark.parametrize("model", TWINS, ids=lambda model: model.__name__)
def test_a_message_has_the_fields_of_its_twin_in_the_contract(model: type[BaseModel]) -> None:
    message: Descriptor = pb.DESCRIPTOR.message_types_by_name[TWINS[model]]
    assert {field.name for field in message.fields} == set(model.model_fields)


def test_every_message_has_a_twin() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) - {"Names", "UserExport"} == set(TWINS.values())
