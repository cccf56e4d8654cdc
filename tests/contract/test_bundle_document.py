"""The page on the bundle names every file, every manifest field and every gate."""

import dataclasses
from pathlib import Path

import pytest
from pydantic import BaseModel

from retrank.contract.actions import ActionFacts
from retrank.contract.bundle import FILES, ITEM_ENCODER_FILES, MANIFEST, RANKER_FILES
from retrank.contract.manifest import (
    FORMAT_VERSION,
    DataFacts,
    EncoderFacts,
    IndexFacts,
    ItemColumn,
    Manifest,
    MetricFacts,
    RankerFacts,
    SealedFile,
)  # fmt: skip
from retrank.export.gates import Gates

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()


@pytest.mark.parametrize("name", [*FILES, *RANKER_FILES, *ITEM_ENCODER_FILES, MANIFEST])
def test_every_file_is_described(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize(
    "record",
    [Manifest, ActionFacts, DataFacts, EncoderFacts, IndexFacts, ItemColumn, MetricFacts, RankerFacts, SealedFile],
)
def test_every_field_is_described(record: type[BaseModel]) -> None:
    assert [name for name in record.model_fields if f"`{name}`" not in PAGE] == []


def test_the_format_version_is_the_one_the_code_reads() -> None:
    assert f"this version reads ({FORMAT_VERSION})" in PAGE


def test_every_gate_is_described() -> None:
    assert [field.name for field in dataclasses.fields(Gates) if f"`{field.name}`" not in PAGE] == []
