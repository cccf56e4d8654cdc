"""A run is compared with baselines on its own data, protocol and test cases, or not at all."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrank.config import compose, resolve
from retrank.contract.errors import DataError
from retrank.data import ingest
from retrank.data.splits import split_store
from retrank.data.store import EventStore
from retrank.export.rivals import leads_over
from retrank.metrics.case_ranks import CaseRanks
from retrank.training.evaluate import baselines_of, recipes_named
from retrank.training.report import RANKS

NAME = "popularity"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    folder = tmp_path_factory.mktemp("store")
    random = np.random.default_rng(0)
    lines = [f"u{user} i{item}\n" for user in range(40) for item in random.permutation(12)[:6]]
    (folder / "walks.txt").write_text("".join(lines))
    data = ["data=sequence_file", f"data.path={folder / 'walks.txt'}", "data.name=walks", "progress=false"]
    return ingest.run(resolve(compose("ingest", [*data, f"out={folder / 'walks'}"])))


@pytest.fixture(scope="module")
def config(store: EventStore) -> Mapping[str, Any]:
    return resolve(compose("train", ["experiment=smoke", "split=leave_last_out", f"store={store.directory}"]))


@pytest.fixture(scope="module")
def ranks(store: EventStore, config: Mapping[str, Any]) -> CaseRanks:
    """What the baseline itself achieves: a run that is neither better nor worse."""
    (row,) = baselines_of(store, split_store(config["split"], store), recipes=recipes_named([NAME])).rows
    return row.ranks


def test_a_run_on_the_same_cases_is_compared(
    store: EventStore, config: Mapping[str, Any], ranks: CaseRanks, tmp_path: Path
) -> None:
    protocol = split_store(config["split"], store).protocol
    ranks.save(tmp_path / RANKS, data_hash=store.facts.data_hash, protocol=protocol)
    assert leads_over([NAME], tmp_path, config, store)[NAME].difference == 0.0


@pytest.mark.parametrize("differs", ["data hash", "protocol", "number of items", "targets"])
def test_a_run_that_was_measured_otherwise_is_not(
    differs: str, store: EventStore, config: Mapping[str, Any], ranks: CaseRanks, tmp_path: Path
) -> None:
    facts = {"data_hash": store.facts.data_hash, "protocol": split_store(config["split"], store).protocol}
    if differs == "number of items":
        ranks = replace(ranks, num_items=ranks.num_items + 1)
    elif differs == "targets":
        ranks = replace(ranks, targets=ranks.targets[::-1].copy())
    else:
        facts[differs.replace(" ", "_")] = "another"
    ranks.save(tmp_path / RANKS, **facts)
    with pytest.raises(DataError, match=rf"baseline popularity and .* cannot be compared: (the )?{differs}"):
        leads_over([NAME], tmp_path, config, store)
