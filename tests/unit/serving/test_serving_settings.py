"""Settings: an unknown key or an impossible value ends in one message that names it."""

from pathlib import Path
from typing import Any

import pytest

from retrank.config import compose, resolve
from retrank.contract.errors import ConfigError
from retrank.serving.settings import Settings, parse_settings


def test_the_defaults_in_the_configuration_are_those_of_the_code() -> None:
    in_file = resolve(compose("serve", ["++bundle=some/where"]))["serving"]
    assert parse_settings({"bundle": "some/where", **in_file}) == Settings(bundle=Path("some/where"))


@pytest.mark.parametrize(
    "values",
    [
        {"events": {"directory": ""}},
        {"events": {"kafka_servers": ""}},
        {"service": {"folder": ""}},
        {"guard": {"auth": {"key_file": ""}}},
        {"state": {"url": ""}},
        {"host": ""},
        {"events": ""},
        {"bundle": ""},
    ],
    ids=str,
)
def test_an_empty_setting_is_named_and_what_to_say_instead(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"serving setting '[a-z_.]+' is empty; give it a value, or say null"):
        parse_settings({"bundle": "b", **values})


@pytest.mark.parametrize("events", [None, {}, {"max_age_days": 30.0}, {"directory": None, "kafka_servers": None}])
def test_events_are_kept_in_the_folder_unless_settings_say_where(events: dict[str, Any] | None) -> None:
    kept = parse_settings({"bundle": "b", "service": {"folder": "f"}, "events": events}).event_logs()
    assert kept.directory == Path("f/logs")
    elsewhere = parse_settings({"bundle": "b", "events": {**(events or {}), "kafka_servers": "broker:9092"}})
    assert elsewhere.event_logs().directory is None


def test_the_folder_of_events_can_be_set_from_the_command_line() -> None:
    in_file = resolve(compose("serve", ["bundle=some/where", "serving.events.directory=/srv/events"]))["serving"]
    assert parse_settings({"bundle": "b", **in_file}).event_logs().directory == Path("/srv/events")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"bundle": "b", "replica": 2}, "'replica'"),
        ({"bundle": "b", "replicas": 0}, "'replicas'"),
        ({"bundle": "b", "port": 70_000}, "'port'"),
        ({"bundle": "b", "pipeline": {"num_candidate": 5}}, "'pipeline.num_candidate'"),
        ({}, "'bundle'"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_settings(values)
