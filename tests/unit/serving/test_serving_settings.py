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
