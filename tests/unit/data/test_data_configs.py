"""Every dataset and split that ships composes and builds, and an unknown key is refused."""

from typing import get_args

import pytest

from retrank.config import compose, configs_dir, instantiate, resolve
from retrank.contract.errors import ConfigError
from retrank.contract.events import EventType
from retrank.contract.slate_options import NOT_HISTORY
from retrank.data.ingest import run
from retrank.serving.events.tables import SCHEMA

DATASETS = sorted(path.stem for path in (configs_dir() / "data").glob("*.yaml"))
SPLITS = sorted({path.stem for path in (configs_dir() / "split").glob("*.yaml")} - {"from_data"})


def overrides(name: str) -> list[str]:
    """Fill in what a person must say."""
    needs = {"csv": ["data.path=x"], "parquet": ["data.path=x"], "sequence_file": ["data.path=x"]}
    needs |= {"live_events": ["data.path=x"], "live_impressions": ["data.path=x"]}
    needs |= {"csv_with_items": ["data.path=x", "data.items.path=y"], "deskdrop": ["data.path=x"]}
    return [f"data={name}", *needs.get(name, [])]


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_that_ships_builds_a_reader_of_its_name(name: str) -> None:
    config = resolve(compose("ingest", overrides(name)))
    assert instantiate(config["data"]).name == name
    assert config["out"].endswith(f"stores/{name}")


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_that_ships_builds(name: str) -> None:
    assert callable(instantiate(compose("evaluate", [f"split={name}"]).split))


@pytest.mark.parametrize("name", [name for name in DATASETS if len(overrides(name)) > 1])
def test_a_path_that_must_be_given_is_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.(items\.)?path"):
        resolve(compose("ingest", [f"data={name}"]))


def test_what_a_service_was_told_is_read_as_it_reads_it_itself() -> None:
    """Each type of event is an act in the one store and left out of the other, or the other way round."""
    columns = {
        name: instantiate(compose("ingest", overrides(name)).data).columns
        for name in ("live_events", "live_impressions")
    }
    assert set(columns["live_events"].leave_out_actions) == set(NOT_HISTORY)
    assert set(columns["live_impressions"].leave_out_actions) == set(get_args(EventType)) - {"impression"}
    for one in columns.values():
        named = {str(column).partition(".")[0] for column in one.roles().values()}
        assert named <= set(SCHEMA.names)


@pytest.mark.parametrize("name", DATASETS)
def test_an_unknown_key_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="colour"):
        run(resolve(compose("ingest", [*overrides(name), "+data.colour=red"])))
